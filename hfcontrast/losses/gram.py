"""Sums of squares over D x D cross-products, from N x N Gram matrices where these are smaller (Barlow Twins, VICReg).

|A^T B|^2 = tr(B^T A A^T B) = tr(A A^T B B^T): the sum of squares over a D x D matrix A^T B equals the sum of the products of the
two N x N Gram matrices A A^T and B B^T. With heads of 8192 dimensions and batches of hundreds the latter are far smaller.
"""

from torch import Tensor


def squared_norm(a: Tensor, b: Tensor) -> Tensor:
    """Sum of the squares of all entries of a^T b, for a and b of (N, D)."""
    samples, width = a.shape
    if samples >= width:
        return (a.T @ b).square().sum()
    gram = a @ a.T
    return (gram * gram).sum() if a is b else (gram * (b @ b.T)).sum()


def check_two_views(first: Tensor, second: Tensor) -> None:
    """Refuses views that are not (N, D) of one shape with N >= 2."""
    if first.ndim != 2 or first.shape != second.shape or len(first) < 2:
        raise ValueError(
            "two views (N, D) of one shape and at least 2 samples are needed for statistics over the batch, got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
