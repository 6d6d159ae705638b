"""NT-Xent against the paper's formula, written out pair by pair."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import nt_xent


def reference(embeddings, temperature):
    """Equation 1 of SimCLR for every ordered pair (i, j) of views of one image."""
    images, views, _ = embeddings.shape
    z = [[F.normalize(embeddings[b, v], dim=0) for v in range(views)] for b in range(images)]
    everything = [(b, v) for b in range(images) for v in range(views)]
    total, pairs = 0.0, 0
    for b, v in everything:
        others = [torch.dot(z[b][v], z[c][w]) / temperature for c, w in everything if (c, w) != (b, v)]
        for w in range(views):
            if w != v:
                total = total - torch.dot(z[b][v], z[b][w]) / temperature + torch.stack(others).logsumexp(0)
                pairs += 1
    return total / pairs


@pytest.mark.parametrize("shape", [(2, 2, 3), (5, 2, 8), (4, 3, 5), (3, 4, 2), (1, 3, 4)])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 2])
def test_value_and_gradient_are_those_of_the_formula(shape, temperature):
    embeddings = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected = reference(embeddings, temperature)
    (expected_gradient,) = torch.autograd.grad(expected, embeddings)
    loss = nt_xent(embeddings, temperature)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient)

    single = embeddings.detach().float().requires_grad_()
    (single_gradient,) = torch.autograd.grad(nt_xent(single, temperature), single)
    torch.testing.assert_close(single_gradient.double(), expected_gradient, rtol=1e-3, atol=1e-5)


def test_gradient_is_the_derivative():
    embeddings = torch.randn(3, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: nt_xent(z, 0.3), embeddings)


def test_value_computed_by_hand():
    # Two images at right angles, each with two equal views. For every anchor the positive's similarity is 1 and that of
    # the two negatives is 0, so at t = 1 the loss is -log(e / (e + 1 + 1)) = log(1 + 2 / e) = 0.551445.
    embeddings = torch.tensor([[[3.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 5.0]]])
    assert nt_xent(embeddings, 1).item() == pytest.approx(0.551445, abs=1e-6)


def test_one_image_has_no_negatives():
    assert nt_xent(torch.randn(1, 2, 8), 0.1).item() == pytest.approx(0.0, abs=1e-6)


def test_identical_embeddings_give_the_logarithm_of_the_number_of_candidates():
    assert nt_xent(torch.ones(4, 2, 8), 0.1).item() == pytest.approx(math.log(7), abs=1e-5)


def test_a_zero_vector_is_similar_to_nothing():
    embeddings = torch.zeros(2, 2, 4, requires_grad=True)
    loss = nt_xent(embeddings, 0.1)
    assert loss.item() == pytest.approx(math.log(3), abs=1e-6)
    loss.backward()
    assert torch.isfinite(embeddings.grad).all()


def test_a_low_temperature_does_not_overflow():
    embeddings = torch.randn(6, 2, 16, requires_grad=True)
    loss = nt_xent(embeddings, 1e-4)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(embeddings.grad).all()
    torch.testing.assert_close(loss.double(), reference(embeddings.double(), 1e-4), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    embeddings = torch.randn(5, 2, 16).to(dtype).requires_grad_()
    loss = nt_xent(embeddings, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nt_xent(embeddings.float(), 0.1))
    loss.backward()
    assert embeddings.grad.dtype == dtype and torch.isfinite(embeddings.grad).all()


def test_autocast_does_not_reach_it():
    embeddings = torch.randn(5, 2, 64)
    expected = nt_xent(embeddings, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nt_xent(embeddings, 0.1), expected)
        assert torch.equal(nt_xent(embeddings=embeddings, temperature=0.1), expected)


def test_one_view_is_refused():
    with pytest.raises(ValueError, match="at least 2, got 1"):
        nt_xent(torch.randn(4, 1, 8), 0.1)
