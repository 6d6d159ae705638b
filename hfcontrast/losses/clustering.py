"""Losses over cluster assignments that are balanced over the batch."""

import torch
from torch import Tensor

from .precision import full_precision


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignments that use all prototypes equally (SwAV, Caron et al., 2020, arXiv:2006.09882, eq. 3 to 5).

    The matrix exp(scores / epsilon) is scaled in turn so that each prototype gets N / K samples and each sample sums to
    1, as Sinkhorn and Knopp do; here in logarithms, so that no epsilon over- or underflows. The batch must be the whole
    one.

    Args:
        scores: (N, K), similarities of N samples with K prototypes. Half precision is computed in float32.
        epsilon: Smoothness > 0; small values give hard assignments.
        iterations: How often both are scaled, >= 1; the samples last.

    Returns:
        (N, K) without gradient, float32 at least. Each row sums to 1; the columns' sums approach N / K. Identical
        samples are each spread over all prototypes equally.

    Raises:
        ValueError: No iteration, or not a matrix.
    """
    if scores.ndim != 2 or iterations < 1:
        raise ValueError(f"scores (N, K) and 1 iteration or more are needed, got {tuple(scores.shape)}, {iterations}")
    logs = scores / epsilon
    for _ in range(iterations):
        logs = logs - logs.logsumexp(dim=0)
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
    return logs.exp()


@full_precision
def swapped_prediction(scores: Tensor, assignments: Tensor, temperature: float = 0.1) -> Tensor:
    """Each view predicts the other views' assignments (SwAV, Caron et al., 2020, arXiv:2006.09882, eq. 1 and 2).

    With scores s of the views v and assignments q of the first T views u::

        mean over images, mean over pairs u != v of  - q_u . log softmax(s_v / t)

    Args:
        scores: (B, V, K), similarities of the views with K prototypes, V >= 2. Half precision is computed in float32.
        assignments: (B, T, K) of the first T views, T <= V, each summing to 1; no gradient reaches them.
        temperature: t > 0.

    Returns:
        Scalar >= 0; log K for scores that are all alike.

    Raises:
        ValueError: There is no pair of different views, T > V, or the shapes differ otherwise.
    """
    images, views, prototypes = scores.shape
    others = assignments.shape[1]
    if assignments.shape != (images, others, prototypes):
        raise ValueError(
            f"scores (B, V, K) and assignments (B, T, K) differ in B or K: {tuple(scores.shape)} and "
            f"{tuple(assignments.shape)}"
        )
    if not 1 <= others <= views or views < 2:
        raise ValueError(f"different views are paired: got assignments of {others} and scores of {views} views")
    assignments = assignments.detach()
    logs = (scores / temperature).log_softmax(dim=-1)
    agreement = (logs.sum(dim=1) * assignments.sum(dim=1)).sum() - (logs[:, :others] * assignments).sum()
    return -agreement / (images * others * (views - 1))
