"""The multi-block masks of I-JEPA: target blocks whose features are predicted, and the context block they are predicted from.

Assran et al., 2023, arXiv:2301.08243, section 3. All masks of a batch are drawn in parallel, each from its own random numbers.
"""

import torch
from torch import Tensor

from ...nn.masks.blocks import rectangles

TRIES = 8  # tried positions of the context


def numbers_for_blocks(targets: int) -> int:
    """Number of random numbers that :func:`multi_block_masks` needs for an image with this many target blocks."""
    return 3 + 2 * (targets + TRIES)


def multi_block_masks(
    uniform: Tensor,
    shape: tuple[int, int],
    targets: int,
    target_scale: tuple[float, float],
    target_aspect: tuple[float, float],
    context_scale: tuple[float, float],
    least: int,
) -> tuple[Tensor, Tensor]:
    """Draws target blocks, which may overlap, and a square context block, from which the targets are removed.

    The targets of an image have one size; their positions, and the sizes for other images, are drawn independently. If the targets
    leave too little of the context, other positions of the context are tried; if none is sufficient, the last target is not removed
    from it, then the last two, and so on.

    Args:
        uniform: (N, numbers_for_blocks(targets)) in [0, 1).
        shape: Rows H and columns W of patches.
        targets: Number M of target blocks.
        target_scale: Range of a target's share of the patches.
        target_aspect: Range of the ratio of a target's height to its width.
        context_scale: Range of the context's share of the patches, before the targets are removed.
        least: Minimum number of patches in the context, if a block of its size has as many.

    Returns:
        The context (N, H, W) and the targets (N, M, H, W), bool.
    """
    scale, aspect, context, tops, lefts = uniform.split([1, 1, 1, targets + TRIES, targets + TRIES], dim=1)
    tall, wide = _sides(_between(scale, target_scale), _between(aspect, target_aspect), shape)
    blocks = _placed(tops[:, :targets], lefts[:, :targets], tall, wide, shape)
    tall, wide = _sides(_between(context, context_scale), torch.ones_like(context), shape)
    tried = _placed(tops[:, targets:], lefts[:, targets:], tall, wide, shape)
    # Remove all targets, all but the last, ..., none; each with every position of the context: the first that is large enough.
    taken = torch.cat([torch.zeros_like(blocks[:, :1]), blocks.cumsum(dim=1) > 0], dim=1).flip(1)
    candidates = (tried.unsqueeze(1) & ~taken.unsqueeze(2)).flatten(1, 2)
    order = torch.arange(candidates.shape[1], device=uniform.device)
    sizes = candidates.flatten(2).sum(dim=2).clamp(max=least)
    chosen = (sizes * len(order) - order).argmax(dim=1)
    return candidates[torch.arange(len(chosen), device=uniform.device), chosen], blocks


def _between(uniform: Tensor, limits: tuple[float, float]) -> Tensor:
    return limits[0] + uniform * (limits[1] - limits[0])


def _sides(scale: Tensor, aspect: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Height and width of blocks that cover a share of the patches; at least one patch, at most the whole side."""
    area = (scale * (shape[0] * shape[1])).floor()
    return (area * aspect).sqrt().round().clamp(1, shape[0]), (area / aspect).sqrt().round().clamp(1, shape[1])


def _placed(tops: Tensor, lefts: Tensor, tall: Tensor, wide: Tensor, shape: tuple[int, int]) -> Tensor:
    """Blocks of one size (N, 1) at positions (N, M) given by numbers in [0, 1): (N, M, H, W)."""
    top, left = (tops * (shape[0] - tall + 1)).floor(), (lefts * (shape[1] - wide + 1)).floor()
    return rectangles(top, left, tall.expand_as(top), wide.expand_as(left), shape)
