"""The loss of VICReg: variance, invariance, covariance (Bardes et al., 2021)."""

import torch
from torch import Tensor

from .gram import check_two_views, squared_norm
from .precision import full_precision


@full_precision
def vicreg(
    first: Tensor,
    second: Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> Tensor:
    """VICReg: variance, invariance, covariance (Bardes et al., 2021, arXiv:2105.04906, eq. 1 to 6).

    With x and y the two views' embeddings, S their standard deviations and C their covariances over the batch
    (both with N - 1)::

        invariance  *  mean over samples and dimensions of (x - y)^2
        variance    *  mean over x and y, mean over dimensions of max(0, 1 - S_j),     S_j = sqrt(Var_j + eps)
        covariance  *  sum over x and y of  1 / D sum_{i != j} C_ij^2

    The means over the dimensions in the first line and over the two views in the second are the authors' code, which
    the weights 25, 25, 1 belong to; the paper's equations have sums there.

    Args:
        first: (N, D), one view of all images of the batch, N >= 2. Half precision is computed in float32.
        second: (N, D), the other view.
        invariance: lambda of the paper.
        variance: mu of the paper.
        covariance: nu of the paper.
        eps: Added to the variance under the root, which keeps the gradient finite where a dimension is constant.

    Returns:
        Scalar >= 0 (to rounding). Identical embeddings give variance * (1 - sqrt(eps)).

    Raises:
        ValueError: The views differ in shape, or there is only one sample.
    """
    check_two_views(first, second)
    samples, width = first.shape
    loss = invariance * (first - second).square().mean()
    for x in (first, second):
        x = x - x.mean(dim=0)
        variances = x.square().sum(dim=0) / (samples - 1)
        loss = loss + variance * torch.relu(1 - (variances + eps).sqrt()).mean() / 2
        everything = squared_norm(x, x) / (samples - 1) ** 2
        loss = loss + covariance * (everything - variances.square().sum()) / width
    return loss
