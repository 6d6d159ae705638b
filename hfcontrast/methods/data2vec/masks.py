"""The masks of data2vec: blocks of patches, with exactly the same number of masked patches in every image.

The masks of :func:`~hfcontrast.nn.block_masks` may be a few patches short, like those of DINOv2's authors.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ...nn.masks.blocks import NUMBERS_PER_BLOCK, block_masks

_BLOCKS = 32  # tried blocks


def numbers_for_mask(height: int, width: int) -> int:
    """Number of random numbers that :func:`exact_block_masks` needs for an image of height x width patches."""
    return NUMBERS_PER_BLOCK * _BLOCKS + height * width


def exact_block_masks(
    uniform: Tensor, count: int, height: int, width: int, least: int = 16, min_aspect: float = 0.3
) -> Tensor:
    """Masks made of rectangles (BEiT, Bao et al., 2021, arXiv:2106.08254, algorithm 1), all with the same number of patches.

    Thirty-two blocks are drawn by :func:`~hfcontrast.nn.block_masks`; the missing patches are then chosen at random from
    those next to the blocks.

    Args:
        uniform: (N, numbers_for_mask(height, width)) in [0, 1).
        count: Patches to mask, at most height * width.
        height: Rows of patches H.
        width: Patches in a row W.
        least: Smallest area of a block, in patches; blocks may overlap.
        min_aspect: Smallest ratio of a block's height to its width; its inverse is the largest.

    Returns:
        (N, H, W) bool, true where masked.
    """
    blocks, noise = uniform.split([NUMBERS_PER_BLOCK * _BLOCKS, height * width], dim=1)
    counts = torch.full((len(uniform),), count, device=uniform.device)
    masks = block_masks(blocks, counts, height, width, min_aspect, least)
    beside = F.max_pool2d(masks.unsqueeze(1).float(), 3, stride=1, padding=1).flatten(1)
    ranks = (2 * masks.flatten(1) + beside + noise).argsort(dim=1, descending=True)  # masked, then beside, then others
    chosen = ranks[:, :count]
    return torch.zeros_like(masks.flatten(1)).scatter_(1, chosen, True).view_as(masks)
