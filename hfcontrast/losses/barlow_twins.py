"""The loss of Barlow Twins: redundancy reduction (Zbontar et al., 2021)."""

from torch import Tensor

from .gram import check_two_views, squared_norm
from .precision import full_precision


@full_precision
def barlow_twins(first: Tensor, second: Tensor, off_diagonal: float = 0.005, eps: float = 1e-5) -> Tensor:
    """Barlow Twins (Zbontar et al., 2021, arXiv:2103.03230, eq. 1 and 2).

    With a and b the two views' embeddings, each dimension normalized over the batch to mean 0 and variance 1, and their
    cross-correlation matrix C = a^T b / N::

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
    check_two_views(first, second)
    a, b = ((x - x.mean(dim=0)) * (x.var(dim=0, unbiased=False) + eps).rsqrt() for x in (first, second))
    diagonal = (a * b).mean(dim=0)
    everything = squared_norm(a, b) / len(a) ** 2
    return (1 - diagonal).square().sum() + off_diagonal * (everything - diagonal.square().sum())
