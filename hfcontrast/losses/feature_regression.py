"""Regression of a teacher's features by a student's predictions (FitNets, Romero et al., 2014; SimReg, Navaneet et al., 2021)."""

from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision


@full_precision
def feature_regression(predictions: Tensor, targets: Tensor, normalize: bool = True) -> Tensor:
    """Squared distance between predictions and a teacher's features (SimReg, arXiv:2201.05131, section 3).

    With unit vectors p and t, or the vectors themselves::

        mean over rows of  |p - stopgrad(t)|^2     (= 2 - 2 p . t for unit vectors)

    Args:
        predictions: (..., D).
        targets: (..., D), of the same shape; no gradient reaches them.
        normalize: Whether both are normalized first, as in SimReg. A zero vector stays zero. False compares the vectors
            themselves, as FitNets (arXiv:1412.6550, eq. 3) does with the maps of a hidden layer, up to its factor 1/2.

    Returns:
        Scalar; 0 where the predictions are the targets, at most 4 for unit vectors. Half precision is computed in float32.

    Raises:
        ValueError: The shapes differ.
    """
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions and targets must have one shape, got {tuple(predictions.shape)} and {tuple(targets.shape)}"
        )
    targets = targets.detach()
    if normalize:
        predictions, targets = F.normalize(predictions, dim=-1), F.normalize(targets, dim=-1)
    return (predictions - targets).square().sum(dim=-1).mean()
