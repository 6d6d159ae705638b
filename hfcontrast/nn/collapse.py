"""Measures of collapse: the effective rank of features, RankMe, and the standard deviation of features on the sphere."""

import torch
from torch import Tensor
from torch.nn import functional as F


def effective_rank(features: Tensor) -> float:
    """Effective rank of a set of features: exp of the entropy of its normalized singular values (Roy & Vetterli, 2007).

    Args:
        features: (N, D); centered here.

    Returns:
        Between 1 (collapsed to a line) and min(N, D).
    """
    values = torch.linalg.svdvals((features - features.mean(dim=0)).float())
    shares = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()))


def feature_std(features: Tensor) -> float:
    """Mean over dimensions of the standard deviation of unit vectors, times the square root of their width.

    Args:
        features: (N, D); normalized here.

    Returns:
        About 1 for features spread over the sphere, 0 after a collapse (SimSiam, Chen and He, 2020, section 4.1); NaN of fewer than two.
    """
    if len(features) < 2:
        return float("nan")
    unit = F.normalize(features.float(), dim=1)
    return float(unit.std(dim=0).mean()) * unit.shape[1] ** 0.5


def rankme(features: Tensor, epsilon: float = 1e-7) -> float:
    """RankMe (Garrido et al., 2023, arXiv:2210.02885, equation 1): exp of the entropy of the singular values' shares.

    As published the features are not centered: a mean that all share is one of the directions, and a large one lowers the figure.

    Args:
        features: (N, D); the paper takes N = 25,600.
        epsilon: Added to each share, the paper's.

    Returns:
        Between 1 and min(N, D), up to what epsilon adds.
    """
    values = torch.linalg.svdvals(features.float())
    shares = values / values.sum().clamp_min(1e-12) + epsilon
    return float(torch.exp(-(shares * shares.log()).sum()))
