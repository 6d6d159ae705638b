"""Grids of overlapping patches: cut from images, shaken, and turned to any side (CPC)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def cut_patches(images: Tensor, size: int, stride: int) -> Tensor:
    """Cuts images into overlapping patches.

    Args:
        images: (B, C, H, W).
        size: Side of a patch, in pixels.
        stride: Distance from one patch to the next, in pixels.

    Returns:
        (B, rows, columns, C, size, size), with (H - size) // stride + 1 rows.
    """
    return images.unfold(2, size, stride).unfold(3, size, stride).permute(0, 2, 3, 1, 4, 5)


def jitter_patches(patches: Tensor, pixels: int, numbers: Tensor) -> Tensor:
    """Keeps a random square of every patch, in the middle of a frame of zeros (CPC, arXiv:1807.03748, section 3.2).

    Args:
        patches: (B, rows, columns, C, size, size).
        pixels: How much smaller the square is, from 1 to size - 1.
        numbers: (B, rows * columns * 2) in [0, 1), which say where it lies.

    Returns:
        Patches of the same shape.
    """
    grid, channels, size = patches.shape[:3], patches.shape[3], patches.shape[4]
    flat = patches.flatten(0, 2)
    places = (numbers * (pixels + 1)).long().view(-1, 2, 1) + torch.arange(size - pixels, device=flat.device)
    rows, columns = places[:, 0, None, :, None], places[:, 1, None, None, :]
    each = torch.arange(len(flat), device=flat.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=flat.device).view(1, -1, 1, 1)
    frame = (pixels // 2, pixels - pixels // 2)
    return F.pad(flat[each, channel, rows, columns], frame + frame).unflatten(0, grid)


def turn_grid(grid: Tensor, direction: str) -> Tensor:
    """Turns a grid (B, rows, columns, ...) so that a direction, "down", "up", "right" or "left", points down."""
    if direction in ("right", "left"):
        grid = grid.transpose(1, 2)
    return grid.flip(1) if direction in ("up", "left") else grid
