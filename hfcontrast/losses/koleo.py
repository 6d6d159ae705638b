"""How embeddings lie on the sphere: close where they belong together, spread out otherwise."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import self_log_sums


def _check_samples(loss: str, embeddings: Tensor) -> None:
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(f"{loss} takes embeddings (N, D) of at least 2 samples, got {tuple(embeddings.shape)}")


@full_precision
def koleo(embeddings: Tensor, eps: float = 1e-8) -> Tensor:
    """KoLeo, the Kozachenko-Leonenko entropy estimator as a regularizer (Sablayrolles et al., 2018, arXiv:1806.03198).

    With unit vectors x, as DINOv2 (arXiv:2304.07193) applies it to the class tokens of one view::

        - mean over i of  log( min_{j != i} |x_i - x_j| + eps )

    Args:
        embeddings: (N, D), N >= 2; need not be normalized. A zero vector stays zero. Half precision is computed in
            float32.
        eps: Keeps the logarithm finite.

    Returns:
        Scalar >= -log 2. Identical embeddings give -log(eps) and, there being no direction apart, a gradient of zero.

    Raises:
        ValueError: Fewer than two samples.
    """
    _check_samples("KoLeo", embeddings)
    x = F.normalize(embeddings, dim=-1)
    with torch.no_grad():
        similarity = x @ x.T
        nearest = similarity.fill_diagonal_(-torch.inf).argmax(dim=1)
    return -(torch.linalg.vector_norm(x - x[nearest], dim=-1) + eps).log().mean()


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
    return torch.linalg.vector_norm(apart, dim=-1).pow(alpha).mean()


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
    _check_samples("uniformity", embeddings)
    samples = len(embeddings)
    # |x - y|^2 = 2 - 2 x.y, so the potentials are exponentials of similarities at the temperature 1 / (2 t).
    sums = self_log_sums(F.normalize(embeddings, dim=-1), 1 / (2 * t), tile=tile)
    return sums.logsumexp(dim=0) - 2 * t - math.log(samples * (samples - 1))
