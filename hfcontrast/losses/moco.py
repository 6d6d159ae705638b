"""MoCo's loss: InfoNCE with a queue of earlier keys as the negatives (He et al., 2019)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import cross_log_sums


@full_precision
def queue_info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float, tile: int | None = None) -> Tensor:
    """InfoNCE with a queue of earlier keys as the negatives (MoCo, He et al., 2019, arXiv:1911.05722, eq. 1).

    With unit vectors q, k and n::

        mean over i of  -log( exp(q_i . k_i / t) / (exp(q_i . k_i / t) + sum_j exp(q_i . n_j / t)) )

    The other keys of the batch are not negatives; with them as negatives the loss is :func:`~hfcontrast.losses.info_nce`.

    Args:
        queries: (B, D); need not be normalized, nor keys nor queue. A zero vector stays zero, so slots of a queue that are not
            yet filled count as negatives with similarity 0. Half precision is computed in float32.
        keys: (B, D), the positives; MoCo computes them without gradient.
        queue: (K, D), K >= 0; no gradient reaches it. An empty one leaves no negative and a loss of 0.
        temperature: t > 0; 0.07 in the paper, 0.2 in MoCo v2.
        tile: As in :func:`~hfcontrast.losses.nt_xent`.

    Returns:
        Scalar; log(1 + K) for embeddings that are all alike.

    Raises:
        ValueError: Shapes that do not fit, or a tile below 1.
    """
    if queries.ndim != 2 or queries.shape != keys.shape or queue.ndim != 2 or queue.shape[1] != queries.shape[1]:
        raise ValueError(
            "the queue form of InfoNCE takes queries (B, D), keys (B, D) and a queue (K, D), got "
            f"{tuple(queries.shape)}, {tuple(keys.shape)} and {tuple(queue.shape)}"
        )
    queries, keys, queue = (F.normalize(vectors, dim=-1) for vectors in (queries, keys, queue.detach()))
    positives = (queries * keys).sum(dim=-1) / temperature
    negatives, _ = cross_log_sums(queries, queue, temperature, tile=tile)
    return (torch.logaddexp(positives, negatives) - positives).mean()
