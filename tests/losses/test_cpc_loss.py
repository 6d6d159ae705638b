"""InfoNCE of predictions against the paper's formula, written out prediction by prediction."""

import math

import pytest
import torch

from hfcontrast.losses import predictive_info_nce


def reference(predictions, candidates, positives):
    losses = []
    for prediction, positive in zip(predictions, positives):
        scores = torch.stack([torch.dot(prediction, candidate).exp() for candidate in candidates])
        losses.append(-(scores[positive] / scores.sum()).log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("tile", [None, 2, 5])
@pytest.mark.parametrize("shape", [(4, 4, 3), (3, 7, 5), (6, 2, 1), (1, 1, 4)])
def test_it_is_the_formula(shape, tile, agree):
    count, others, width = shape
    positives = torch.randint(others, (count,))
    agree(
        lambda p, z: predictive_info_nce(p, z, positives, tile=tile),
        lambda p, z: reference(p, z, positives),
        torch.randn(count, width),
        torch.randn(others, width),
    )


def test_a_value_by_hand():
    # Scores 2 and 0 of the first prediction, 0 and 3 of the second.
    predictions, candidates = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.eye(2)
    expected = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(3))) / 2
    value = predictive_info_nce(predictions, candidates, torch.tensor([0, 0]))
    torch.testing.assert_close(value, torch.tensor(expected))


@pytest.mark.parametrize("tile", [None, 2])
def test_scores_of_any_size_are_summed_safely(tile):
    predictions, candidates = 100 * torch.eye(3), 100 * torch.eye(3).requires_grad_()
    right = predictive_info_nce(predictions, candidates, torch.tensor([0, 1, 2]), tile=tile)
    wrong = predictive_info_nce(predictions, candidates, torch.tensor([1, 2, 0]), tile=tile)
    assert right.item() == pytest.approx(0, abs=1e-3) and wrong.item() == pytest.approx(1e4)
    (gradient,) = torch.autograd.grad(wrong, candidates)
    assert torch.isfinite(gradient).all()


def test_the_edges():
    predictions, positives = torch.randn(5, 4), torch.tensor([0, 1, 1, 2, 6])
    alike = torch.randn(1, 4).expand(7, 4)
    assert predictive_info_nce(predictions, alike, positives).item() == pytest.approx(math.log(7), rel=1e-5)
    assert predictive_info_nce(0 * predictions, torch.randn(7, 4), positives).item() == pytest.approx(math.log(7))
    assert predictive_info_nce(predictions, alike[:1], 0 * positives).item() == pytest.approx(0, abs=1e-6)
    far = predictions.requires_grad_(), torch.randn(7, 4).requires_grad_()
    predictive_info_nce(*far, positives).backward()
    assert all(value.grad.abs().sum() > 0 for value in far)


@pytest.mark.parametrize("shapes", [((3, 4), (5, 3), 3), ((3, 4), (5, 4), 2), ((3, 2, 4), (5, 4), 3)])
def test_shapes_that_do_not_fit_are_refused(shapes):
    predictions, candidates, count = shapes
    with pytest.raises(ValueError, match=r"predictions \(N, D\), candidates \(M, D\) and positives \(N,\)"):
        predictive_info_nce(torch.randn(predictions), torch.randn(candidates), torch.zeros(count, dtype=torch.long))
