"""The multi-class N-pair loss (Sohn, 2016)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision


@full_precision
def n_pair(anchors: Tensor, positives: Tensor, penalty: float = 0.0) -> Tensor:
    """Multi-class N-pair loss (Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss", NIPS 2016).

    With one pair of anchor f and positive g from each of N classes::

        mean over i of  log(1 + sum_{j != i} exp(f_i . g_j - f_i . g_i))   +  penalty * mean of |f|^2 and |g|^2

    The embeddings are not normalized: their lengths act as an inverse temperature, which the penalty keeps small.

    Args:
        anchors: (N, D). Half precision is computed in float32.
        positives: (N, D), in the order of the anchors; no two of one class.
        penalty: Weight >= 0 of the squared lengths.

    Returns:
        Scalar >= 0; log N for embeddings that are all alike and for zero vectors, 0 for N = 1 (without penalty).

    Raises:
        ValueError: The two do not have one shape.
    """
    if anchors.ndim != 2 or anchors.shape != positives.shape:
        raise ValueError(f"N-pair takes (N, D) and (N, D), got {tuple(anchors.shape)} and {tuple(positives.shape)}")
    loss = F.cross_entropy(anchors @ positives.T, torch.arange(len(anchors), device=anchors.device))
    if penalty:
        loss = loss + penalty * (anchors.square().sum() + positives.square().sum()) / (2 * len(anchors))
    return loss
