"""Block-wise masks for masked image modeling, drawn for each image from its own random numbers."""

import math

import torch
from torch import Tensor

NUMBERS_PER_BLOCK = 4


def block_masks(
    uniform: Tensor, counts: Tensor, height: int, width: int, min_aspect: float = 0.3, least: int = 4
) -> Tensor:
    """Masks made of rectangles (BEiT, Bao et al., 2021, arXiv:2106.08254, algorithm 1, in the form of DINOv2's authors).

    Blocks are drawn one after another: the area uniformly between ``least`` and the number of patches left to mask, the aspect ratio
    log-uniformly, the position uniformly. A block that covers no new patch, or more than are left, is skipped. All masks are
    drawn in parallel; each depends only on its own numbers.

    Args:
        uniform: (N, 4 * blocks) in [0, 1), four for every tried block.
        counts: (N,) number of patches to mask.
        height: Rows of patches H.
        width: Patches in a row W.
        min_aspect: Smallest ratio of a block's height to its width; its inverse is the largest.
        least: Smallest area of a block, in patches.

    Returns:
        (N, H, W) bool, true where masked. At most ``counts`` patches each; slightly fewer if the last blocks did not fit.
    """
    draws = uniform.unflatten(1, (-1, NUMBERS_PER_BLOCK)).unbind(dim=1)
    left = counts.clone()
    masks = torch.zeros(len(counts), height, width, dtype=torch.bool, device=uniform.device)
    for draw in draws:
        area, aspect, down, right = draw.unbind(dim=1)
        area = least + area * (left - least)
        aspect = torch.exp((2 * aspect - 1) * math.log(1 / min_aspect))
        tall, wide = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        top, start = (down * (height - tall + 1)).floor(), (right * (width - wide + 1)).floor()
        new = rectangles(top, start, tall, wide, (height, width)) & ~masks
        gained = new.sum(dim=(1, 2))
        taken = (gained <= left) & (tall < height) & (wide < width)
        masks |= new & taken[:, None, None]
        left = left - gained * taken
    return masks


def rectangles(top: Tensor, left: Tensor, tall: Tensor, wide: Tensor, shape: tuple[int, int]) -> Tensor:
    """Rectangles on a grid of (rows, columns).

    Args:
        top: First row of each, of any shape (...); ``left`` its first column, ``tall`` and ``wide`` its sides.
        left: See ``top``.
        tall: See ``top``.
        wide: See ``top``.
        shape: Rows and columns of the grid.

    Returns:
        (..., rows, columns) bool, true inside.
    """
    spans = []
    for start, length, size in ((top, tall, shape[0]), (left, wide, shape[1])):
        places = torch.arange(size, device=top.device)
        spans.append((places >= start.unsqueeze(-1)) & (places < (start + length).unsqueeze(-1)))
    return spans[0].unsqueeze(-1) & spans[1].unsqueeze(-2)
