"""The loss of colorization as classification over color bins: soft targets, class rebalancing, annealed mean.

Zhang, Isola, Efros, 2016, arXiv:1603.08511, section 2. Colors are pairs (a, b) of CIE Lab.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision

_PIECE = 1 << 14  # colors whose distances to all bins are computed at a time


@torch.no_grad()
@full_precision
def soft_encode(colors: Tensor, bins: Tensor, neighbors: int = 5, sigma: float = 5.0) -> tuple[Tensor, Tensor]:
    """The nearest bins of each color, weighted by a Gaussian of their distances (section 2.2): Z, without its zeros.

    Args:
        colors: (N, 2).
        bins: (Q, 2), the centers of the bins.
        neighbors: Number K of bins with a weight, at most Q.
        sigma: Standard deviation of the Gaussian, above 0.

    Returns:
        Indices of the bins (N, K) int64, the nearest first, and their weights (N, K), which sum to 1.
    """
    near, numbers = [], []
    for piece in torch.split(colors, _PIECE):
        distances = torch.cdist(piece, bins, compute_mode="donot_use_mm_for_euclid_dist")
        found = distances.topk(neighbors, dim=1, largest=False)
        near.append(found.values)
        numbers.append(found.indices)
    return torch.cat(numbers), (-torch.cat(near).square() / (2 * sigma**2)).softmax(dim=1)


@torch.no_grad()
@full_precision
def rebalancing_weights(frequencies: Tensor, bins: Tensor, sigma: float = 5.0, uniform_share: float = 0.5) -> Tensor:
    """Class rebalancing: rare colors get larger weights (eq. 4), w = 1 / ((1 - lambda) p + lambda / Q), 1 on average.

    Args:
        frequencies: (Q,) frequency of each bin; only the ratios matter.
        bins: (Q, 2).
        sigma: Standard deviation of the Gaussian that smooths the frequencies over the ab plane, above 0. The sum of the
            frequencies is kept at the edge too.
        uniform_share: lambda, in [0, 1]: 1 makes all weights equal.

    Returns:
        (Q,); the mean over the smoothed frequencies p is 1.
    """
    distances = torch.cdist(bins, bins, compute_mode="donot_use_mm_for_euclid_dist")
    kernel = (-distances.square() / (2 * sigma**2)).softmax(dim=0)  # each column spreads one bin
    smooth = kernel @ (frequencies / frequencies.sum())
    weights = 1 / ((1 - uniform_share) * smooth + uniform_share / len(bins))
    return weights / (smooth * weights).sum()


@full_precision
def color_cross_entropy(logits: Tensor, numbers: Tensor, shares: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy with the soft targets, times the weight of each color's nearest bin (eq. 2 and 3), per color.

    Args:
        logits: (N, Q).
        numbers: (N, K) int64, indices of the targets' bins, the nearest first.
        shares: (N, K), their weights in the target.
        weights: (Q,).

    Returns:
        (N,).
    """
    likelihoods = F.log_softmax(logits, dim=1).gather(1, numbers)
    return -(shares * likelihoods).sum(dim=1) * weights[numbers[:, 0]]


@full_precision
def annealed_mean(logits: Tensor, bins: Tensor, temperature: float = 0.38) -> Tensor:
    """The annealed mean: the mean color of a sharpened distribution (eq. 5).

    Args:
        logits: (..., Q).
        bins: (Q, 2).
        temperature: T above 0: 1 is the plain mean, which is desaturated; towards 0 it becomes the mode.

    Returns:
        (..., 2).
    """
    return (logits / temperature).softmax(dim=-1) @ bins
