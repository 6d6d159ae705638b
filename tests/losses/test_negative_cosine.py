"""Negative cosine similarity against SimSiam's and BYOL's formulas, pair by pair."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import negative_cosine


def reference(predictions, targets):
    losses = []
    for p, z in zip(predictions, targets):
        losses += [-F.cosine_similarity(p[v], z[u], dim=0) for u in range(len(z)) for v in range(len(p)) if u != v]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("shape", [(1, 2, 2, 3), (4, 2, 2, 8), (3, 5, 2, 4), (2, 3, 3, 5), (3, 2, 1, 4)])  # B, V, T, D
def test_value_and_gradient_are_those_of_the_formula(shape, agree):
    images, views, others, width = shape
    targets = torch.randn(images, others, width)
    agree(
        lambda p: negative_cosine(p, targets.double() if p.dtype == torch.float64 else targets),
        lambda p: reference(p, targets.double()),
        torch.randn(images, views, width),
    )


def test_values_computed_by_hand():
    # Prediction 0 and target 1 are equal (cosine 1), prediction 1 and target 0 at 45 degrees: -(1 + 0.707107) / 2.
    predictions = torch.tensor([[[2.0, 0.0], [1.0, 1.0]]])
    targets = torch.tensor([[[0.0, 1.0], [3.0, 0.0]]])
    loss = negative_cosine(predictions, targets)
    assert loss.item() == pytest.approx(-0.853553, abs=1e-6)
    byol = [
        (F.normalize(predictions[0, v], dim=0) - F.normalize(targets[0, 1 - v], dim=0)).square().sum() for v in (0, 1)
    ]
    assert (2 + 2 * loss).item() == pytest.approx(sum(byol).item() / 2, abs=1e-6)


def test_no_gradient_reaches_the_targets():
    predictions, targets = torch.randn(2, 3, 2, 4, requires_grad=True)
    targets = targets.detach().requires_grad_()
    negative_cosine(predictions, targets).backward()
    assert targets.grad is None


@pytest.mark.parametrize("value, expected", [(0.0, 0.0), (2.0, -1.0)])
def test_zero_and_identical_embeddings(value, expected):
    predictions = torch.full((3, 2, 4), value, requires_grad=True)
    loss = negative_cosine(predictions, predictions)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert torch.isfinite(predictions.grad).all()


def test_views_without_a_pair_are_refused():
    for others, views in ((1, 1), (3, 2), (0, 2)):
        with pytest.raises(ValueError, match=f"got {others} target and {views} prediction views"):
            negative_cosine(torch.zeros(2, views, 5), torch.zeros(2, others, 5))
    with pytest.raises(ValueError, match=r"\(2, 2, 5\) and \(3, 2, 5\)"):
        negative_cosine(torch.zeros(2, 2, 5), torch.zeros(3, 2, 5))
