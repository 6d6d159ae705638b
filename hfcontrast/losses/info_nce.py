"""InfoNCE over unit vectors (van den Oord et al., 2018): each query against all keys."""

from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import mean_log_sum


@full_precision
def info_nce(queries: Tensor, keys: Tensor, temperature: float | Tensor, tile: int | None = None) -> Tensor:
    """InfoNCE: the cross-entropy of finding each query's key among all keys (van den Oord et al., 2018, arXiv:1807.03748, eq. 4).

    With unit vectors q and k::

        mean over i of  -log( exp(q_i . k_i / t) / sum_j exp(q_i . k_j / t) )

    Args:
        queries: (B, D); need not be normalized, nor the keys. A zero vector stays zero. Half precision is computed in
            float32.
        keys: (M, D), M >= B; the first B are the positives of the queries, in order; the others are negatives of all.
        temperature: t > 0; a tensor gets a gradient.
        tile: Queries compared with all keys at a time, at most; None as in :func:`~hfcontrast.losses.nt_xent`.

    Returns:
        Scalar; log M for embeddings that are all alike, 0 for B = M = 1, where there is no negative. A gradient reaches
        the queries and the keys.

    Raises:
        ValueError: Fewer keys than queries, another width, or a tile below 1.
    """
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1] or len(keys) < len(queries):
        raise ValueError(
            "InfoNCE takes queries (B, D) and keys (M, D) with a key for every query, M >= B, got "
            f"{tuple(queries.shape)} and {tuple(keys.shape)}"
        )
    queries, keys = F.normalize(queries, dim=-1), F.normalize(keys, dim=-1)
    positives = (queries * keys[: len(queries)]).sum(dim=-1)
    return mean_log_sum(queries, keys, temperature, tile) - (positives / temperature).mean()
