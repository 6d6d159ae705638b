"""NT-Xent with a memory, against the formula written out pair by pair."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import nt_xent, nt_xent_memory


def reference(embeddings, memory, temperature):
    """For every ordered pair (i, j) of views of one image: all other views of the batch, and the memory, in the denominator."""
    images, views, _ = embeddings.shape
    z, m = F.normalize(embeddings, dim=2), F.normalize(memory, dim=1)
    everything = [(b, v) for b in range(images) for v in range(views)]
    losses = []
    for b, v in everything:
        others = [torch.dot(z[b, v], z[c, w]) for c, w in everything if (c, w) != (b, v)]
        candidates = torch.stack(others + [torch.dot(z[b, v], row) for row in m]) / temperature
        losses += [candidates.logsumexp(0) - torch.dot(z[b, v], z[b, w]) / temperature for w in range(views) if w != v]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("shape", [(2, 2, 3), (4, 3, 5), (1, 2, 4)])
@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("temperature", [0.1, 1])
def test_value_and_gradient_are_those_of_the_formula(shape, size, temperature):
    embeddings = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(size, shape[2], dtype=torch.float64)
    expected = reference(embeddings, memory, temperature)
    loss = nt_xent_memory(embeddings, memory, temperature)
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value, embeddings)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_an_empty_memory_is_nt_xent():
    embeddings = torch.randn(5, 2, 8)
    torch.testing.assert_close(nt_xent_memory(embeddings, torch.zeros(0, 8), 0.2), nt_xent(embeddings, 0.2))


def test_value_computed_by_hand():
    # Two equal views of one image and a memory at right angles to them: -log(e / (e + 1)) at t = 1.
    embeddings, memory = torch.tensor([[[2.0, 0.0], [1.0, 0.0]]]), torch.tensor([[0.0, 3.0]])
    assert nt_xent_memory(embeddings, memory, 1).item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_embeddings_that_are_all_alike():
    assert nt_xent_memory(torch.ones(3, 2, 4), torch.ones(5, 4), 0.1).item() == pytest.approx(math.log(10), abs=1e-5)


def test_no_gradient_reaches_the_memory():
    memory = torch.randn(5, 4, requires_grad=True)
    nt_xent_memory(torch.randn(3, 2, 4, requires_grad=True), memory, 0.1).backward()
    assert memory.grad is None


@pytest.mark.parametrize("tile", [1, 4, 100])
def test_tiles_change_nothing(tile):
    embeddings, memory = torch.randn(5, 2, 8, requires_grad=True), torch.randn(13, 8)
    losses = [nt_xent_memory(embeddings, memory, 0.2, size) for size in (None, tile)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, embeddings)[0] for loss in losses))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    embeddings, memory = torch.randn(4, 2, 8).to(dtype), torch.randn(9, 8).to(dtype)
    loss = nt_xent_memory(embeddings, memory, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, reference(embeddings.float(), memory.float(), 0.1), rtol=1e-4, atol=1e-4)


def test_zero_vectors_are_similar_to_nothing():
    embeddings = torch.zeros(2, 2, 4, requires_grad=True)
    loss = nt_xent_memory(embeddings, torch.zeros(3, 4), 0.1)
    assert loss.item() == pytest.approx(math.log(6), abs=1e-6)
    loss.backward()
    assert torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("shapes", [((4, 1, 8), (5, 8)), ((4, 8), (5, 8)), ((4, 2, 8), (5, 7)), ((4, 2, 8), (8,))])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="embeddings .B, V, D. of 2 views or more and a memory .K, D., got"):
        nt_xent_memory(*(torch.randn(shape) for shape in shapes), 0.1)
