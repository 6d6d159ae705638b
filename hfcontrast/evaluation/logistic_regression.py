"""Multinomial logistic regression with an L2 penalty, by full-batch L-BFGS: the computation of the linear probe.

L-BFGS runs in coordinates in which a bound of the Hessian (Böhning, 1992) is near the identity: features that are strongly
correlated, as those of pixels or of a collapsing encoder, then take some thirty steps instead of hundreds.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .finite import finite_train, wrong_test
from .linear_probe import STRENGTHS

_LOGITS = 1 << 24  # numbers that are held at once
_TOLERANCE = 3e-5  # of the gradient at the end of a fit
_TOLERANCE_OF_CHOICE = 3e-4  # and of one of those that only choose the penalty by their accuracy


@torch.no_grad()
def linear_accuracy(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    strengths: tuple[float, ...] = STRENGTHS,
) -> float:
    """Top-1 accuracy of a linear classifier that is fitted to the train features. Computed where the features are.

    Args:
        train: (N, D) features of the training images. Which of them are held out depends on their order.
        train_labels: (N,) classes, 0 and up; rows with a negative one have none and are left out, as rows with features that are not finite.
        test: (M, D) features of the test images; a row that is not finite counts as wrong.
        test_labels: (M,), in the same way. A class that no train row has counts as wrong.
        strengths: L2 penalties to choose from, above 0: the loss is the mean cross-entropy plus strength / 2 times the sum of
            the squared weights (scikit-learn's C is 1 / (strength * N)). Fewer than five rows take the largest.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: No train row, or no test row, has a label.
    """
    train, train_labels = finite_train(*_labeled(train, train_labels))
    test, test_labels = _labeled(*wrong_test(test, test_labels, train_labels))
    if not len(train) or not len(test):
        raise ValueError(
            f"a linear probe needs labeled rows: there are {len(train)} train rows and {len(test)} test rows"
        )
    classes, targets = train_labels.unique(return_inverse=True)
    std, mean = torch.std_mean(train, dim=0, correction=0)
    # A constant dimension is rounding and says nothing, nor does one with an image whose feature is not a number.
    scale = torch.where(std > 1e-6 * mean.abs(), 1 / std, 0.0)
    train, test = (_standardized(features, mean, scale) for features in (train, test))
    correlation = train.T @ train / len(train)
    strength, weights = choose_strength(train, targets, correlation, len(classes), strengths)
    weights = fit(train, targets, correlation, strength, weights)
    return _accuracy(weights, test, test_labels, classes)


def _labeled(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that have a label; without a copy where all have one, as features of pixels take hundreds of megabytes."""
    has_one = labels >= 0
    return (features, labels) if has_one.all() else (features[has_one], labels[has_one])


def _standardized(features: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return features.sub(mean).mul_(scale).nan_to_num_(0.0, 0.0, 0.0)


def choose_strength(
    features: Tensor, targets: Tensor, correlation: Tensor, classes: int, strengths: tuple[float, ...] = STRENGTHS
) -> tuple[float, Tensor]:
    """The penalty that classifies a held-out fifth of the rows best: every fifth of the rows in the order of their classes.

    Args:
        features: (N, D), standardized.
        targets: (N,) classes from 0 to classes - 1.
        correlation: (D, D), see :func:`fit`.
        classes: Their number.
        strengths: What to choose from; of equally good ones the largest. They are tried from there, each fit starting from
            the one before, until two in a row are worse than the best.

    Returns:
        The strength, and the weights (classes, D + 1) that it gave.
    """
    weights = features.new_zeros(classes, features.shape[1] + 1)
    held_out = targets.argsort(stable=True)[4::5]
    best, chosen, worse = -1.0, (max(strengths), weights), 0
    if not len(held_out):
        return chosen
    fitted = torch.ones_like(targets, dtype=torch.bool)
    fitted[held_out] = False
    rows, wanted, names = features[fitted], targets[fitted], torch.arange(classes, device=features.device)
    for strength in sorted(strengths, reverse=True):
        weights = fit(rows, wanted, correlation, strength, weights, _TOLERANCE_OF_CHOICE)
        accuracy = _accuracy(weights, features[held_out], targets[held_out], names)
        if accuracy > best:
            best, chosen = accuracy, (strength, weights)
        worse = worse + 1 if accuracy < best else 0
        if worse == 2:
            break
    return chosen


@torch.no_grad()
def fit(
    features: Tensor,
    targets: Tensor,
    correlation: Tensor,
    strength: float,
    start: Tensor,
    tolerance: float = _TOLERANCE,
) -> Tensor:
    """Minimizes the penalized cross-entropy; returns the weights (classes, D + 1), of which the last column is the bias.

    Args:
        features: (N, D), standardized.
        targets: (N,) classes.
        correlation: (D, D), the mean over the rows of their outer products, about. It decides only how fast this is.
        strength: The L2 penalty.
        start: Weights to start from; left as they are.
        tolerance: Largest component of the gradient, in the coordinates of the minimization, at which it ends.
    """
    factor = _factor(correlation / len(start), strength)
    # Multiplying by the inverse is several times as fast as solving with the factor, dozens of times.
    inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor), device=factor.device), upper=False)

    def weights() -> Tensor:
        slopes = found[:, :-1] @ inverse
        return torch.cat([slopes, found[:, -1:]], dim=1)

    def closure() -> Tensor:
        loss, gradient = loss_and_gradient(weights(), features, targets, strength)
        slopes = gradient[:, :-1] @ inverse.T
        found.grad = torch.cat([slopes, gradient[:, -1:]], dim=1)
        return loss

    found = torch.cat([start[:, :-1] @ factor, start[:, -1:]], dim=1)
    torch.optim.LBFGS(
        [found],
        max_iter=200,
        tolerance_grad=tolerance,
        tolerance_change=1e-9,
        history_size=10,
        line_search_fn="strong_wolfe",
    ).step(closure)
    return weights()


def _factor(curvature: Tensor, strength: float) -> Tensor:
    """The Cholesky factor of (about) the Hessian; the identity where rounding leaves none."""
    rounding = 1e-7 * float(curvature.trace())
    curvature = curvature.double()
    curvature.diagonal().add_(max(strength, rounding))
    factor, failed = torch.linalg.cholesky_ex(curvature)
    return torch.eye(len(factor), device=factor.device) if failed else factor.float()


@torch.no_grad()
def loss_and_gradient(weights: Tensor, features: Tensor, targets: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy with its L2 penalty, and the gradient; the bias is not penalized. Never holds all logits at once.

    Args:
        weights: (classes, D + 1).
        features: (N, D).
        targets: (N,).
        strength: The penalty.
    """
    slopes, gradient = weights[:, :-1], torch.zeros_like(weights)
    loss = torch.zeros((), dtype=torch.float64, device=weights.device)
    part = max(_LOGITS // len(weights), 1)
    for rows, wanted in zip(features.split(part), targets.split(part)):
        logs = torch.addmm(weights[:, -1], rows, slopes.T).log_softmax(dim=1)
        loss += F.nll_loss(logs, wanted, reduction="sum")
        error = logs.exp_()
        error[torch.arange(len(wanted), device=wanted.device), wanted] -= 1
        gradient[:, :-1].addmm_(error.T, rows)
        gradient[:, -1] += error.sum(dim=0)
    gradient /= len(features)
    gradient[:, :-1].add_(slopes, alpha=strength)
    return loss / len(features) + strength / 2 * slopes.square().sum(), gradient


def _accuracy(weights: Tensor, features: Tensor, labels: Tensor, classes: Tensor) -> float:
    """Share of rows whose label is the class with the largest logit."""
    part = max(_LOGITS // len(weights), 1)
    correct = 0
    for rows, wanted in zip(features.split(part), labels.split(part)):
        logits = torch.addmm(weights[:, -1], rows, weights[:, :-1].T)
        correct += int((classes[logits.argmax(dim=1)] == wanted).sum())
    return correct / len(features)
