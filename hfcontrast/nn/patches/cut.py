"""Cutting images into a grid of patches, and putting them together again."""

import torch
from torch import Tensor


def cut_patches(images: Tensor, size: int, stride: int | None = None) -> Tensor:
    """Cuts images into a grid of patches.

    Args:
        images: (B, C, H, W).
        size: Side of a patch, in pixels.
        stride: Distance from one patch to the next, in pixels; smaller than ``size``, they overlap. None takes ``size``.

    Returns:
        (B, rows, columns, C, size, size), with (H - size) // stride + 1 rows.
    """
    stride = size if stride is None else stride
    return images.unfold(2, size, stride).unfold(3, size, stride).permute(0, 2, 3, 1, 4, 5)


def patchify(pixel_values: Tensor, side: int) -> Tensor:
    """Cuts images into patches that are rows of numbers, as MAE predicts them.

    Args:
        pixel_values: (N, C, H, W).
        side: Side of a patch, in pixels; divides H and W.

    Returns:
        (N, T, side * side * C): patches row by row, in each the pixels row by row with the channels last, as MAE has them.
    """
    patches = cut_patches(pixel_values, side).permute(0, 1, 2, 4, 5, 3)
    return patches.reshape(len(pixel_values), -1, side * side * pixel_values.shape[1])


def unpatchify(patches: Tensor, side: int, rows: int) -> Tensor:
    """The inverse of :func:`patchify`: (N, T, side * side * C) to (N, C, H, W), of so many rows of patches."""
    count, number, size = patches.shape
    channels = size // side**2
    grid = patches.reshape(count, rows, number // rows, side, side, channels)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(count, channels, rows * side, -1)


def normalize_patches(patches: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor, Tensor]:
    """Patches less their own mean, by their own standard deviation (He et al., 2021, arXiv:2111.06377, section 3).

    Args:
        patches: (N, T, P).
        epsilon: Added to the variance, which is the unbiased one, as in the authors' code.

    Returns:
        Normalized patches (N, T, P), and the means and standard deviations (N, T, 1) that bring the pixels back.
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    std = (variance + epsilon).sqrt()
    return (patches - mean) / std, mean, std
