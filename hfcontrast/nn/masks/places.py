"""The positions of masked patches, as index tensors of one length."""

import torch
from torch import Tensor


def places_of(masks: Tensor) -> tuple[Tensor, Tensor]:
    """The positions where masks are true, padded to the length of the longest.

    Args:
        masks: (..., T) bool.

    Returns:
        Positions (..., K) int64 in order, and which of them are in the mask (..., K) bool; the others are padding.
    """
    counts = masks.sum(dim=-1)
    longest = int(counts.max())
    places = masks.long().argsort(dim=-1, descending=True, stable=True)[..., :longest]
    return places, torch.arange(longest, device=masks.device) < counts.unsqueeze(-1)
