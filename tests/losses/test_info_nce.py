"""InfoNCE, its queue form and CLIP's loss against the papers' formulas, written out pair by pair."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import clip_loss, info_nce, queue_info_nce

TEMPERATURES = [0.01, 0.07, 0.5, 2]


def cosine(a, b):
    return torch.dot(F.normalize(a, dim=0), F.normalize(b, dim=0))


def info_nce_reference(queries, keys, temperature):
    losses = []
    for i, query in enumerate(queries):
        exponents = torch.stack([cosine(query, key) / temperature for key in keys])
        losses.append(-exponents.softmax(0)[i].log())
    return torch.stack(losses).mean()


def queue_reference(queries, keys, queue, temperature):
    losses = []
    for query, key in zip(queries, keys):
        exponents = torch.stack([cosine(query, other) / temperature for other in (key, *queue)])
        losses.append(-exponents.softmax(0)[0].log())
    return torch.stack(losses).mean()


def clip_reference(images, texts, temperature):
    return (info_nce_reference(images, texts, temperature) + info_nce_reference(texts, images, temperature)) / 2


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("shape", [(2, 2, 3), (5, 5, 8), (3, 7, 4), (1, 3, 4)])
def test_info_nce_is_the_formula(shape, temperature, tile, agree):
    queries, keys = torch.randn(shape[0], shape[2]), torch.randn(shape[1], shape[2])
    agree(
        lambda q, k: info_nce(q, k, temperature, tile=tile),
        lambda q, k: info_nce_reference(q, k, temperature),
        queries,
        keys,
        atol=1e-3,
    )


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("shape", [(2, 3, 3), (4, 9, 8), (1, 1, 4)])
def test_queue_info_nce_is_the_formula(shape, temperature, tile, agree):
    batch, slots, width = shape
    queue = torch.randn(slots, width)
    agree(
        lambda q, k: queue_info_nce(
            q, k, queue.double() if q.dtype == torch.float64 else queue, temperature, tile=tile
        ),
        lambda q, k: queue_reference(q, k, queue.double(), temperature),
        torch.randn(batch, width),
        torch.randn(batch, width),
        atol=1e-3,
    )


@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("shape", [(2, 3), (5, 8), (1, 4)])
def test_clip_is_the_formula_with_a_gradient_for_the_temperature(shape, temperature, tile, agree):
    agree(
        lambda x, y, t: clip_loss(x, y, t, tile=tile),
        lambda x, y, t: clip_reference(x, y, t),
        torch.randn(shape),
        torch.randn(shape),
        torch.tensor(float(temperature)),
        atol=1e-3 / temperature,
    )
    fixed = torch.randn(2, *shape, dtype=torch.float64)
    torch.testing.assert_close(clip_loss(*fixed, temperature, tile=tile), clip_reference(*fixed, temperature))


def test_values_computed_by_hand():
    # Two queries at right angles that meet their keys: -log(e / (e + 1)) at t = 1. A queue that holds one vector at
    # right angles to both gives the same, one that holds the first query log(1 + 1) for it.
    vectors = torch.tensor([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    single = math.log(1 + 1 / math.e)
    assert info_nce(vectors, vectors, 1).item() == pytest.approx(single, abs=1e-6)
    assert clip_loss(vectors, vectors, 1).item() == pytest.approx(single, abs=1e-6)
    assert queue_info_nce(vectors, vectors, torch.tensor([[0, 0, 5.0]]), 1).item() == pytest.approx(single, abs=1e-6)
    expected = (math.log(2) + single) / 2
    assert queue_info_nce(vectors, vectors, vectors[:1], 1).item() == pytest.approx(expected, abs=1e-6)


def test_identical_embeddings_give_the_logarithm_of_the_number_of_candidates():
    same = torch.ones(4, 8)
    assert info_nce(same, torch.ones(6, 8), 0.1).item() == pytest.approx(math.log(6), abs=1e-5)
    assert clip_loss(same, same, 0.1).item() == pytest.approx(math.log(4), abs=1e-5)
    assert queue_info_nce(same, same, torch.ones(9, 8), 0.1).item() == pytest.approx(math.log(10), abs=1e-5)


def test_without_a_negative_the_loss_is_zero():
    query, key = torch.randn(2, 1, 8, requires_grad=True)
    assert info_nce(query, key, 0.1).item() == pytest.approx(0.0, abs=1e-6)
    assert clip_loss(query, key, 0.1).item() == pytest.approx(0.0, abs=1e-6)
    loss = queue_info_nce(query, key, torch.zeros(0, 8), 0.1)
    (gradient,) = torch.autograd.grad(loss, query)
    assert loss.item() == 0 and torch.equal(gradient, torch.zeros_like(gradient))


def test_an_empty_slot_of_the_queue_is_a_negative_at_right_angles():
    query = torch.tensor([[2.0, 0.0]])
    loss = queue_info_nce(query, query, torch.zeros(3, 2), 1)
    assert loss.item() == pytest.approx(math.log(1 + 3 / math.e), abs=1e-6)


def test_no_gradient_reaches_the_queue():
    queue = torch.randn(5, 4, requires_grad=True)
    queries = torch.randn(2, 4, requires_grad=True)
    queue_info_nce(queries, torch.randn(2, 4), queue, 0.1, tile=2).backward()
    assert queue.grad is None and queries.grad.abs().sum() > 0


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"M >= B, got \(4, 8\) and \(3, 8\)"):
        info_nce(torch.zeros(4, 8), torch.zeros(3, 8), 0.1)
    with pytest.raises(ValueError, match=r"\(4, 8\), \(4, 8\) and \(9, 7\)"):
        queue_info_nce(torch.zeros(4, 8), torch.zeros(4, 8), torch.zeros(9, 7), 0.1)
    with pytest.raises(ValueError, match=r"\(4, 8\), \(5, 8\)"):
        clip_loss(torch.zeros(4, 8), torch.zeros(5, 8), 0.1)
