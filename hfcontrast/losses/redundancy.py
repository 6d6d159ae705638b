"""Losses that make the dimensions of an embedding say different things: Barlow Twins, VICReg."""

import torch
from torch import Tensor

from .precision import full_precision

# Sums of squares over a D x D matrix A^T B equal the sum of the products of the two N x N Gram matrices A A^T and B
# B^T, because |A^T B|^2 = tr(B^T A A^T B) = tr(A A^T B B^T). With heads of 8192 dimensions and batches of hundreds that
# is the far smaller one.


def _squared_norm(a: Tensor, b: Tensor) -> Tensor:
    """Sum of the squares of all entries of a^T b, for a and b of (N, D)."""
    samples, width = a.shape
    if samples >= width:
        return (a.T @ b).square().sum()
    gram = a @ a.T
    return (gram * gram).sum() if a is b else (gram * (b @ b.T)).sum()


def _check_twins(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or first.shape != second.shape or len(first) < 2:
        raise ValueError(
            "two views (N, D) of one shape and at least 2 samples are needed for statistics over the batch, got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )


@full_precision
def barlow_twins(first: Tensor, second: Tensor, off_diagonal: float = 0.005, eps: float = 1e-5) -> Tensor:
    """Barlow Twins (Zbontar et al., 2021, arXiv:2103.03230, eq. 1 and 2).

    With a and b the two views' embeddings, each dimension normalized over the batch to mean 0 and variance 1, and their
    cross-correlation C = a^T b / N::

        sum_i (1 - C_ii)^2  +  off_diagonal * sum_{i != j} C_ij^2

    Args:
        first: (N, D), one view of all images of the batch, N >= 2. Half precision is computed in float32.
        second: (N, D), the other view.
        off_diagonal: lambda, the weight of the redundancy reduction.
        eps: Added to the variance, as a batch normalization does. A dimension that is constant over the batch becomes 0
            and costs 1.

    Returns:
        Scalar >= 0 (to rounding), not divided by D. Identical embeddings give D.

    Raises:
        ValueError: The views differ in shape, or there is only one sample.
    """
    _check_twins(first, second)
    a, b = ((x - x.mean(dim=0)) * (x.var(dim=0, unbiased=False) + eps).rsqrt() for x in (first, second))
    diagonal = (a * b).mean(dim=0)
    everything = _squared_norm(a, b) / len(a) ** 2
    return (1 - diagonal).square().sum() + off_diagonal * (everything - diagonal.square().sum())


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
        eps: Added to the variance under the root, which keeps its slope finite where a dimension is constant.

    Returns:
        Scalar >= 0 (to rounding). Identical embeddings give variance * (1 - sqrt(eps)).

    Raises:
        ValueError: The views differ in shape, or there is only one sample.
    """
    _check_twins(first, second)
    samples, width = first.shape
    loss = invariance * (first - second).square().mean()
    for x in (first, second):
        x = x - x.mean(dim=0)
        variances = x.square().sum(dim=0) / (samples - 1)
        loss = loss + variance * torch.relu(1 - (variances + eps).sqrt()).mean() / 2
        everything = _squared_norm(x, x) / (samples - 1) ** 2
        loss = loss + covariance * (everything - variances.square().sum()) / width
    return loss
