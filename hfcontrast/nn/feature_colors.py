"""Visualization of patch features: their first three principal components as red, green and blue."""

import torch
from torch import Tensor
from torch.nn import functional as F

_LIMIT = 2.0  # standard deviations


class PrincipalColors:
    """The first three principal components of a set of features.

    Args:
        features: (..., D) features, D at least 3.
    """

    def __init__(self, features: Tensor):
        rows = features.detach().flatten(0, -2).cpu().double()
        self.mean = rows.mean(dim=0)
        centered = rows - self.mean
        variances, directions = torch.linalg.eigh(centered.T @ centered / len(rows))
        self.directions = directions[:, -3:].flip(1)
        # The sign of a principal direction is arbitrary: make its largest entry positive.
        largest = self.directions.gather(0, self.directions.abs().argmax(dim=0, keepdim=True))
        self.directions = self.directions * torch.where(largest < 0, -1.0, 1.0)
        self.deviations = variances[-3:].flip(0).clamp_min(1e-12).sqrt()

    def __call__(self, features: Tensor) -> Tensor:
        """Colors of features (..., D): (..., 3), of mean 0 and variance 1 over the given features, clipped at two standard deviations."""
        colors = (features.detach().cpu().double() - self.mean) @ self.directions / self.deviations
        return colors.clamp(-_LIMIT, _LIMIT).to(features.device, torch.float32)


def color_image(colors: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Colors of patches (N, T, 3), row by row, as images (N, 3, H, W)."""
    return F.interpolate(colors.mT.unflatten(2, grid), size, mode="nearest")
