"""Losses that tell an image's other views from all other images."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision


@full_precision
def nt_xent(embeddings: Tensor, temperature: float) -> Tensor:
    """NT-Xent, the normalised temperature-scaled cross-entropy of SimCLR (Chen et al., 2020, arXiv:2002.05709, eq. 1).

    With unit vectors z, for an anchor i and its positive j::

        l(i, j) = -log( exp(z_i . z_j / t) / sum_{k != i} exp(z_i . z_k / t) )

    and the mean of it over all ordered pairs of views of one image. With more than two views an image's other views
    are each a positive in turn and all remain in the denominator.

    Args:
        embeddings: (B, V, D), V views of each of B images, V >= 2; need not be normalised. A zero vector stays zero (its
            similarity with everything is 0). Half precision is computed in float32.
        temperature: t > 0.

    Returns:
        Scalar, the mean over B * V * (V - 1) pairs. For B = 1 and V = 2 there is no negative and the loss is 0.

    Raises:
        ValueError: Fewer than two views.
    """
    images, views, _ = embeddings.shape
    if views < 2:
        raise ValueError(f"NT-Xent compares views of one image and needs at least 2, got {views}")
    z = F.normalize(embeddings, dim=-1)
    flat = z.flatten(0, 1)
    logits = flat @ flat.T / temperature
    logits.fill_diagonal_(-torch.inf)
    denominators = logits.logsumexp(dim=1).mean()
    # Sum over ordered pairs of different views: all pairs less each view with itself.
    pairs = z.sum(dim=1).square().sum() - z.square().sum()
    return denominators - pairs / (temperature * images * views * (views - 1))
