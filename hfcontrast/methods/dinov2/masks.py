"""Masks of the global crops of DINOv2: blocks of patches in a share of the crops."""

import torch
from torch import Tensor

from ...nn.masks.blocks import NUMBERS_PER_BLOCK, block_masks
from ...nn.random import sample_uniform

_NUMBERS_PER_MASK = 16 * NUMBERS_PER_BLOCK  # after 16 blocks masks are as full as those of DINOv2's authors


def crop_masks(
    index: Tensor, shape: tuple[int, int, int], probability: float, ratios: tuple[float, float], *key: int
) -> Tensor:
    """Masks of blocks for some of the crops of each image, drawn by :func:`~hfcontrast.nn.sample_uniform`.

    Args:
        index: (B,) int64, the samples' positions in their data set.
        shape: Crops T of an image, and rows H and columns W of the patches of each.
        probability: Share of the crops that are masked, in [0, 1]; the same number of crops of each image, or one more. With two
            crops and 0.5, one of them.
        ratios: Range of the share of masked patches in a masked crop; drawn uniformly.
        key: What else the masks depend on: seed, step, and a number for their purpose.

    Returns:
        (B, T, H, W) bool, true where masked.
    """
    crops, height, width = shape
    numbers = sample_uniform(index, 1 + crops * (1 + _NUMBERS_PER_MASK), *key)
    start, shares, blocks = numbers.tensor_split((1, 1 + crops), dim=1)
    # Systematic sampling: a crop is masked where start, start + p, start + 2p, ... pass a whole number.
    ends = start + probability * torch.arange(crops + 1, device=index.device)
    masked = ends.floor().diff(dim=1)
    counts = masked * ((ratios[0] + shares * (ratios[1] - ratios[0])) * (height * width)).floor()
    masks = block_masks(blocks.reshape(-1, _NUMBERS_PER_MASK), counts.flatten().long(), height, width)
    return masks.unflatten(0, (-1, crops))
