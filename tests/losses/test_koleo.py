"""KoLeo, alignment and uniformity against loops over the pairs of the papers' formulas."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import alignment, koleo, uniformity

SHAPES = [(2, 3), (7, 2), (5, 16)]


def koleo_reference(embeddings):
    x = F.normalize(embeddings, dim=-1)
    nearest = [min((x[i] - x[j]).norm() for j in range(len(x)) if j != i) for i in range(len(x))]
    return -(torch.stack(nearest) + 1e-8).log().mean()


def alignment_reference(first, second, alpha):
    return torch.stack(
        [(F.normalize(x, dim=0) - F.normalize(y, dim=0)).norm() ** alpha for x, y in zip(first, second)]
    ).mean()


def uniformity_reference(embeddings, t):
    x = F.normalize(embeddings, dim=-1)
    pairs = [(-t * (x[i] - x[j]).square().sum()).exp() for i in range(len(x)) for j in range(len(x)) if i != j]
    return torch.stack(pairs).mean().log()


@pytest.mark.parametrize("shape", SHAPES)
def test_koleo_is_the_formula(shape, agree):
    agree(koleo, koleo_reference, torch.randn(shape), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 3), *SHAPES])
@pytest.mark.parametrize("alpha", [1, 2, 3.5])
def test_alignment_is_the_formula(shape, alpha, agree):
    agree(
        lambda x, y: alignment(x, y, alpha),
        lambda x, y: alignment_reference(x, y, alpha),
        torch.randn(shape),
        torch.randn(shape),
    )


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("t", [0.5, 2, 30])
def test_uniformity_is_the_formula(shape, t, tile, agree):
    agree(
        lambda x: uniformity(x, t, tile=tile),
        lambda x: uniformity_reference(x, t),
        torch.randn(shape),
        atol=1e-3,
    )


def test_values_computed_by_hand():
    # On the circle: 0, 60 and 180 degrees. Nearest: 1 (the chord of 60), 1, sqrt(3) (the chord of 120).
    x = torch.tensor([[2.0, 0.0], [0.5, math.sqrt(3) / 2], [-1.0, 0.0]])
    assert koleo(x).item() == pytest.approx(-math.log(3) / 6, abs=1e-6)
    # Squared distances 1, 3 and 4 at t = 1.
    expected = math.log((math.exp(-1) + math.exp(-3) + math.exp(-4)) / 3)
    assert uniformity(x, 1.0).item() == pytest.approx(expected, abs=1e-6)
    assert alignment(x[:2], x[1:]).item() == pytest.approx((1 + 3) / 2, abs=1e-6)
    assert alignment(x[:2], x[1:], 1.0).item() == pytest.approx((1 + math.sqrt(3)) / 2, abs=1e-6)


def test_identical_embeddings():
    x = torch.ones(4, 8, requires_grad=True)
    losses = koleo(x), alignment(x, x), alignment(x, x, 1.0), uniformity(x)
    assert losses[0].item() == pytest.approx(-math.log(1e-8), abs=1e-4)
    assert [loss.item() for loss in losses[1:]] == pytest.approx([0, 0, 0], abs=1e-5)
    assert torch.equal(torch.autograd.grad(losses[0], x)[0], torch.zeros_like(x))
    (gradient,) = torch.autograd.grad(sum(losses[1:]), x)
    assert gradient.abs().max() < 1e-5


def test_zero_vectors_stay_finite():
    x = torch.zeros(4, 8, requires_grad=True)
    loss = koleo(x) + alignment(x, x) + uniformity(x)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all()
    assert uniformity(torch.zeros(3, 2), 1.5).item() == pytest.approx(-3.0, abs=1e-6)


def test_too_few_samples_are_refused():
    for loss in (koleo, uniformity):
        with pytest.raises(ValueError, match=r"at least 2 samples, got \(1, 8\)"):
            loss(torch.zeros(1, 8))
    with pytest.raises(ValueError, match=r"\(4, 8\) and \(3, 8\)"):
        alignment(torch.zeros(4, 8), torch.zeros(3, 8))
