"""Grids of overlapping patches: augmenting each patch independently, and turning the grid (CPC)."""

import torch
from torch import Tensor
from torch.nn import functional as F

DRAWS = 7  # random numbers for the augmentation of a patch


def distort_patches(
    patches: Tensor,
    numbers: Tensor,
    contrast: float = 0.0,
    brightness: float = 0.0,
    color_drop: float = 0.0,
    flip: float = 0.0,
    jitter: int = 0,
) -> Tensor:
    """Augments every patch independently, so that illumination does not identify its image.

    Args:
        patches: (B, rows, columns, C, size, size), normalized.
        numbers: (B, rows * columns * 7) in [0, 1), which determine the augmentation.
        contrast: The patch's difference from its own mean is multiplied by a factor in [1 - contrast, 1 + contrast].
        brightness: A number in [-brightness, brightness] is added, in standard deviations of the normalized values.
        color_drop: Probability that all channels but one become 0, their mean (Hénaff et al., 2020, arXiv:1905.09272).
        flip: Probability of mirroring left to right.
        jitter: A random square smaller by this many pixels is kept, centered and padded with zeros (van den Oord et
            al., 2018, arXiv:1807.03748, section 3.2).

    Returns:
        Patches of the same shape.
    """
    flat = patches.flatten(0, 2)
    draws = numbers.view(len(flat), DRAWS, 1, 1, 1).unbind(dim=1)
    if contrast or brightness:
        mean = flat.mean(dim=(1, 2, 3), keepdim=True)
        flat = (flat - mean) * (1 + contrast * (2 * draws[0] - 1)) + mean + brightness * (2 * draws[1] - 1)
    if color_drop:
        channels = torch.arange(flat.shape[1], device=flat.device).view(1, -1, 1, 1)
        dropped = (draws[2] < color_drop) & (channels != (draws[3] * flat.shape[1]).long())
        flat = flat.masked_fill(dropped, 0.0)
    if flip:
        flat = torch.where(draws[4] < flip, flat.flip(-1), flat)
    if jitter:
        flat = _framed(flat, jitter, draws[5], draws[6])
    return flat.to(patches.dtype).unflatten(0, patches.shape[:3])


def _framed(patches: Tensor, pixels: int, top: Tensor, left: Tensor) -> Tensor:
    """A square of every patch (N, C, size, size), with its corner chosen by the numbers, centered and padded with zeros."""
    count, channels, size, _ = patches.shape
    inside = torch.arange(size - pixels, device=patches.device)
    rows = ((top * (pixels + 1)).long() + inside.view(1, 1, 1, -1)).mT
    columns = (left * (pixels + 1)).long() + inside
    each = torch.arange(count, device=patches.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=patches.device).view(1, -1, 1, 1)
    frame = (pixels // 2, pixels - pixels // 2)
    return F.pad(patches[each, channel, rows, columns], frame + frame)


def turn_grid(grid: Tensor, direction: str) -> Tensor:
    """Turns a grid (B, rows, columns, ...) so that a direction, "down", "up", "right" or "left", points down."""
    if direction in ("right", "left"):
        grid = grid.transpose(1, 2)
    return grid.flip(1) if direction in ("up", "left") else grid
