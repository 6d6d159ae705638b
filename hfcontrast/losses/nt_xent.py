"""NT-Xent, the loss of SimCLR (Chen et al., 2020), and its form with further negatives from a memory (SimCLR v2)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import cross_log_sums, self_log_sums


def pair_sum(z: Tensor) -> Tensor:
    """Sum of z_v . z_w over all ordered pairs of different views of one image: all pairs minus each view with itself."""
    return z.sum(dim=1).square().sum() - z.square().sum()


def check_views(loss: str, embeddings: Tensor) -> None:
    """Refuses embeddings other than (B, V, D) with V >= 2."""
    if embeddings.ndim != 3 or embeddings.shape[1] < 2:
        got = embeddings.shape[1] if embeddings.ndim == 3 else f"a tensor of shape {tuple(embeddings.shape)}"
        raise ValueError(f"{loss} compares views of one image, (B, V, D), and needs at least 2, got {got}")


@full_precision
def nt_xent(embeddings: Tensor, temperature: float, tile: int | None = None) -> Tensor:
    """NT-Xent, the normalized temperature-scaled cross-entropy of SimCLR (Chen et al., 2020, arXiv:2002.05709, eq. 1).

    With unit vectors z, for an anchor i and its positive j::

        l(i, j) = -log( exp(z_i . z_j / t) / sum_{k != i} exp(z_i . z_k / t) )

    and the mean of it over all ordered pairs of views of one image. With more than two views an image's other views
    are each a positive in turn and all remain in the denominator.

    Args:
        embeddings: (B, V, D), V views of each of B images, V >= 2; need not be normalized. A zero vector stays zero
            (its similarity with everything is 0). Half precision is computed in float32.
        temperature: t > 0.
        tile: Rows and columns of the similarity matrix held at a time; None computes small matrices whole and large
            ones in tiles. The value does not depend on it.

    Returns:
        Scalar, the mean over B * V * (V - 1) pairs. For B = 1 and V = 2 there is no negative and the loss is 0.

    Raises:
        ValueError: Fewer than two views, or a tile below 1.
    """
    check_views("NT-Xent", embeddings)
    images, views, _ = embeddings.shape
    z = F.normalize(embeddings, dim=-1)
    denominators = self_log_sums(z.flatten(0, 1), temperature, tile=tile).mean()
    return denominators - pair_sum(z) / (temperature * images * views * (views - 1))


@full_precision
def nt_xent_memory(embeddings: Tensor, memory: Tensor, temperature: float, tile: int | None = None) -> Tensor:
    """NT-Xent with the vectors of a memory as further negatives (Chen et al., 2020, arXiv:2006.10029).

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
    return torch.logaddexp(in_batch, in_memory).mean() - pair_sum(z) / (temperature * images * views * (views - 1))
