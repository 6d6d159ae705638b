"""Regression of a teacher's features against the squared distance, number by number, and its bounds."""

import pytest
import torch

from hfcontrast.losses import feature_regression


def reference(predictions, targets, normalize):
    total = 0
    rows = list(zip(predictions.flatten(0, -2), targets.flatten(0, -2)))
    for p, t in rows:
        if normalize:
            p, t = p / p.norm(), t / t.norm()
        total = total + sum((a - b) ** 2 for a, b in zip(p, t))
    return total / len(rows)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5)])
def test_value_and_gradient_are_those_of_the_formula(shape, normalize, agree):
    targets = torch.randn(shape)
    agree(
        lambda p: feature_regression(p, targets.double() if p.dtype == torch.float64 else targets, normalize),
        lambda p: reference(p, targets.double(), normalize),
        torch.randn(shape),
    )


def test_values_computed_by_hand():
    predictions, targets = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 2.0], [2.0, 2.0]])
    assert feature_regression(predictions, targets).item() == pytest.approx(
        (2 + 0) / 2
    )  # at a right angle, and parallel
    assert feature_regression(predictions, targets, normalize=False).item() == pytest.approx((9 + 4 + 1 + 1) / 2)


def test_its_bounds():
    features = torch.randn(6, 4)
    assert feature_regression(features, features, normalize=False).item() == 0
    assert feature_regression(features, 5 * features).item() == pytest.approx(0, abs=1e-6)  # SimReg compares directions
    assert feature_regression(features, -features).item() == pytest.approx(4, abs=1e-5)


def test_no_gradient_reaches_the_teacher_and_a_zero_vector_is_harmless():
    predictions, targets = torch.zeros(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    feature_regression(predictions, targets).backward()
    assert targets.grad is None and torch.isfinite(predictions.grad).all()
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3, 3\)"):
        feature_regression(torch.zeros(2, 3), torch.zeros(3, 3))
