"""Alignment and uniformity on the unit sphere (Wang and Isola, 2020)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import self_log_sums


@full_precision
def alignment(first: Tensor, second: Tensor, alpha: float = 2.0) -> Tensor:
    """Alignment: how far two views of one image lie apart (Wang and Isola, 2020, arXiv:2005.10242, section 4.1).

    With unit vectors x and y::

        mean over i of  |x_i - y_i| ^ alpha

    Args:
        first: (N, D), one view; need not be normalized, nor the second. A zero vector stays zero. Half precision is
            computed in float32.
        second: (N, D), the other view.
        alpha: Exponent > 0; 2 is 2 - 2 cos.

    Returns:
        Scalar in [0, 2 ** alpha].

    Raises:
        ValueError: The views differ in shape.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"two views (N, D) are needed, got {tuple(first.shape)} and {tuple(second.shape)}")
    apart = F.normalize(first, dim=-1) - F.normalize(second, dim=-1)
    if alpha == 2:
        return apart.square().sum(dim=-1).mean()
    lengths: Tensor = torch.linalg.vector_norm(apart, dim=-1)
    return lengths.pow(alpha).mean()


@full_precision
def uniformity(embeddings: Tensor, t: float = 2.0, tile: int | None = None) -> Tensor:
    """Uniformity: how evenly embeddings cover the sphere (Wang and Isola, 2020, arXiv:2005.10242, section 4.1).

    With unit vectors x::

        log of the mean over pairs i != j of  exp(-t |x_i - x_j|^2)

    Args:
        embeddings: (N, D), N >= 2; need not be normalized. A zero vector counts as at right angles to all, at a squared
            distance of 2. Half precision is computed in float32.
        t: Width > 0 of the Gaussian potential.
        tile: Rows and columns of the similarity matrix held at a time; None holds it whole while it is small and in
            tiles above. The value does not depend on it.

    Returns:
        Scalar in [-4 t, 0]; identical embeddings give 0.

    Raises:
        ValueError: Fewer than two samples, or a tile below 1.
    """
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(f"uniformity takes embeddings (N, D) of at least 2 samples, got {tuple(embeddings.shape)}")
    samples = len(embeddings)
    # |x - y|^2 = 2 - 2 x.y, so the potentials are exponentials of similarities at the temperature 1 / (2 t).
    sums = self_log_sums(F.normalize(embeddings, dim=-1), 1 / (2 * t), tile=tile)
    return sums.logsumexp(dim=0) - 2 * t - math.log(samples * (samples - 1))
