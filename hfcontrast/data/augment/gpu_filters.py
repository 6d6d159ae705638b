"""Sobel filters, noise and cutout in plain torch, for any device: whole batches, each crop with parameters of its own."""

import math

import torch

from hfcontrast.data.augment.definition import MULTIPLIERS

_MASK = 2**32 - 1


def sobel(gray: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) in 0..1 of gray images (N, 1, H, W): half plus an eighth of the gradient to the right and of that down, and half."""
    padded = torch.nn.functional.pad(gray, (1, 1, 1, 1), mode="replicate")
    across, down = padded[..., 2:] - padded[..., :-2], padded[..., 2:, :] - padded[..., :-2, :]
    right = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    below = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return torch.cat([right / 8, below / 8, torch.zeros_like(gray)], 1).add_(0.5)


def add_noise(images: torch.Tensor, starts: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Adds noise to images (N, 3, H, W) in 0..1, and clips.

    Args:
        images: The images.
        starts: (N, 1, 1, 1) int64: hashes of the keys.
        std: (N, 1, 1, 1) standard deviations.
    """
    _, colors, height, width = images.shape
    places = torch.arange(height * width * colors, device=images.device).view(height, width, colors).permute(2, 0, 1)
    first, second = (_hashed((2 * places + half) ^ starts) >> 8 for half in (0, 1))
    radius = torch.sqrt(-2 * torch.log((first + 1).float() / 2**24))
    return (images + std * (radius * torch.cos(2 * math.pi / 2**24 * second))).clamp_(0, 1)


def _hashed(values: torch.Tensor) -> torch.Tensor:
    """As ``definition.hashed``: int64, of which 32 bits are used; products are right in these whatever overflows."""
    values = values ^ (values >> 16)
    values = values * MULTIPLIERS[0] & _MASK
    values = values ^ (values >> 15)
    values = values * MULTIPLIERS[1] & _MASK
    return values ^ (values >> 16)


def cut_out(images: torch.Tensor, y: torch.Tensor, x: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    """Zeros in squares of images (N, 3, H, W): row and column of their centers and their sides, (N, 1, 1, 1) float32; side 0: none."""
    rows, columns = _between(images.shape[-2], y, side), _between(images.shape[-1], x, side)
    return torch.where(rows.transpose(-1, -2) & columns, 0, images)


def _between(size: int, center: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    """Which of so many lines lie within a square, (N, 1, 1, size)."""
    first = center - torch.floor(side / 2)
    lines = torch.arange(size, device=center.device)
    return (lines >= first) & (lines < first + side)
