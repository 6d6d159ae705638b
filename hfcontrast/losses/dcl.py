"""DCL and DCLW: contrastive learning without the positives in the denominator (Yeh et al., 2021)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .nt_xent import check_views, pair_sum
from .precision import full_precision
from .tiles import self_log_sums


@full_precision
def decoupled(embeddings: Tensor, temperature: float, sigma: float | None = None, tile: int | None = None) -> Tensor:
    """DCL, contrastive learning without the positives in the denominator (Yeh et al., 2021, arXiv:2110.06848).

    With unit vectors z, for an anchor i and its positive j::

        l(i, j) = -w_ij z_i . z_j / t + log sum_{k of other images} exp(z_i . z_k / t)

    and the mean of it over all ordered pairs of views of one image. DCL has w = 1. DCLW gives less weight to pairs that already agree: w_ij = 2 - exp(z_i . z_j / sigma) / (mean of exp(z_i . z_j / sigma) over the images of the batch).

    Args:
        embeddings: (B, V, D), B >= 2 images, V >= 2 views; need not be normalized. A zero vector stays zero. Half
            precision is computed in float32.
        temperature: t > 0; the paper takes 0.1.
        sigma: None for DCL; for DCLW a number above 0, 0.5 in the paper.
        tile: As in :func:`~hfcontrast.losses.nt_xent`.

    Returns:
        Scalar, the mean over B * V * (V - 1) pairs; unlike NT-Xent it can be negative. Embeddings that are all alike
        give log(V * (B - 1)).

    Raises:
        ValueError: Fewer than two views, a single image (there is no negative), or a tile below 1.
    """
    check_views("DCL", embeddings)
    images, views, _ = embeddings.shape
    if images < 2:
        raise ValueError("DCL has only other images in its denominator and needs at least 2 images, got 1")
    z = F.normalize(embeddings, dim=-1)
    denominators = self_log_sums(z.flatten(0, 1), temperature, group=views, tile=tile).mean()
    if sigma is None:
        pairs = pair_sum(z)
    else:
        similarity = z @ z.mT
        weights = 2 - images * (similarity / sigma).softmax(dim=0)
        pairs = (weights * similarity)[:, ~torch.eye(views, dtype=torch.bool, device=z.device)].sum()
    return denominators - pairs / (temperature * images * views * (views - 1))
