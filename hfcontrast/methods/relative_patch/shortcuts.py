"""Augmentations of patches against shortcuts: chromatic aberration, illumination, sharpness.

Doersch, Gupta, Efros, 2015, arXiv:1505.05192, sections 3 and 3.1, and the authors' code (cdoersch/deepcontext, train.py);
Noroozi and Favaro, 2016, arXiv:1603.09246, section 3.3.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

_GREEN_TO_MAGENTA = (-1.0, 2.0, -1.0)
_COARSEST = 10 / 96  # of a patch's side: 100 pixels of 96 x 96


def drop_colors(patches: Tensor, kept: Tensor, numbers: Tensor) -> Tensor:
    """Keeps one channel of each patch and replaces the others by noise with 1/100 of its standard deviation.

    Args:
        patches: (N, C, H, W), normalized.
        kept: (N,) int64, the channel that is kept.
        numbers: (N, C * H * W) in [0, 1), multiples of 2^-24, from which the noise is made.

    Returns:
        (N, C, H, W); the noise is normal with mean 0.
    """
    stays = torch.arange(patches.shape[1], device=patches.device) == kept.unsqueeze(1)
    std = patches.std(dim=(2, 3), correction=0).gather(1, kept.unsqueeze(1))
    noise = 2**0.5 * torch.erfinv(2 * numbers - 1 + 2.0**-24)  # never quite -1 or 1
    noise = noise.view(patches.shape) * (std / 100)[:, :, None, None]
    return torch.where(stays[:, :, None, None], patches, noise.to(patches.dtype))


def project_colors(patches: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Projects out the green-magenta axis, along which chromatic aberration shows.

    Args:
        patches: (N, 3, H, W), normalized by the mean and the standard deviation of each channel.
        mean: (3,) in [0, 1].
        std: (3,).

    Returns:
        (N, 3, H, W): the RGB values times I - a a^T / a^T a with a = (-1, 2, -1), normalized again.
    """
    axis = patches.new_tensor(_GREEN_TO_MAGENTA)
    projection = torch.eye(3, device=patches.device) - axis.outer(axis) / axis.dot(axis)
    matrix = projection * std / std.unsqueeze(1)
    shift = (projection @ mean - mean) / std
    return torch.einsum("ij,njhw->nihw", matrix, patches) + shift.view(3, 1, 1)


def pixelate(patches: Tensor, numbers: Tensor, share: float) -> Tensor:
    """Downsamples a share of the patches, to as few as 100 of 96 x 96 pixels, and upsamples them again.

    Args:
        patches: (N, C, S, S).
        numbers: (N, 2) in [0, 1): whether a patch is downsampled, and to how many pixels.
        share: Probability of the first.

    Returns:
        (N, C, S, S), resized bilinearly, down with antialiasing.
    """
    side = patches.shape[-1]
    least = coarsest(side)
    if side - 1 < least:
        return patches
    pixels = least**2 + numbers[:, 1] * ((side - 1) ** 2 - least**2)
    sides = torch.where(numbers[:, 0] < share, pixels.sqrt().long().clamp(least, side - 1), side)
    matrices = _resampling(side).to(patches)[sides - least].unsqueeze(1)
    return matrices.mT @ patches @ matrices


def coarsest(side: int) -> int:
    """Smallest side that a patch is downsampled to, in pixels."""
    return max(round(side * _COARSEST), 2)


@functools.lru_cache(maxsize=8)
def _resampling(side: int) -> Tensor:
    """(sides, S, S): matrices that resample a row of S pixels to each smaller number of pixels and back; the last is the identity."""
    impulses = torch.eye(side, device="cpu").view(1, side, 1, side)
    matrices = []
    for small in range(coarsest(side), side):
        shrunk = F.interpolate(impulses, (1, small), mode="bilinear", antialias=True)
        matrices.append(F.interpolate(shrunk, (1, side), mode="bilinear").view(side, side))
    return torch.stack([*matrices, impulses.view(side, side)])


def standardize_patches(patches: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Subtracts the mean of each channel of each patch (..., C, H, W) and divides by the standard deviation over all its channels."""
    centered = patches - patches.mean(dim=(-2, -1), keepdim=True)
    return centered / (centered.square().mean(dim=(-3, -2, -1), keepdim=True) + epsilon).sqrt()
