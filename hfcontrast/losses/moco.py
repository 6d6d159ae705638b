"""NT-Xent with further negatives from a memory (SimCLR v2)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import cross_log_sums, self_log_sums


@full_precision
def nt_xent_memory(embeddings: Tensor, memory: Tensor, temperature: float, tile: int | None = None) -> Tensor:
    """NT-Xent whose denominators have a memory's vectors beside the batch's (Chen et al., 2020, arXiv:2006.10029).

    With unit vectors z and m, for an anchor i and its positive j::

        l(i, j) = -log( exp(z_i . z_j / t) / (sum_{k != i} exp(z_i . z_k / t) + sum_n exp(z_i . m_n / t)) )

    and the mean of it over all ordered pairs of views of one image.

    Args:
        embeddings: (B, V, D), V >= 2; need not be normalized, nor the memory. A zero vector stays zero. Half precision is
            computed in float32.
        memory: (K, D), K >= 0; no gradient reaches it. With an empty one the loss is :func:`~hfcontrast.losses.nt_xent`.
        temperature: t > 0.
        tile: As in :func:`~hfcontrast.losses.nt_xent`.

    Returns:
        Scalar, the mean over B * V * (V - 1) pairs; log(B * V - 1 + K) for embeddings that are all alike.

    Raises:
        ValueError: Shapes that do not fit, fewer than two views, or a tile below 1.
    """
    if embeddings.ndim != 3 or embeddings.shape[1] < 2 or memory.ndim != 2 or memory.shape[1] != embeddings.shape[2]:
        raise ValueError(
            "NT-Xent with a memory takes embeddings (B, V, D) of 2 views or more and a memory (K, D), got "
            f"{tuple(embeddings.shape)} and {tuple(memory.shape)}"
        )
    images, views, _ = embeddings.shape
    z = F.normalize(embeddings, dim=-1)
    anchors = z.flatten(0, 1)
    in_batch = self_log_sums(anchors, temperature, tile=tile)
    in_memory, _ = cross_log_sums(anchors, F.normalize(memory.detach(), dim=-1), temperature, tile=tile)
    pairs = z.sum(dim=1).square().sum() - z.square().sum()  # all pairs of views less each with itself
    return torch.logaddexp(in_batch, in_memory).mean() - pairs / (temperature * images * views * (views - 1))
