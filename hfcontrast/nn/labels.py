"""Labels of a batch in which some images have none."""

import torch
from torch import Tensor


def own_classes(labels: Tensor) -> Tensor:
    """Labels in which every image without one (-1) is a class of its own.

    Args:
        labels: (B,) of the whole batch, negative where there is none.

    Returns:
        (B,); the labels that were missing are different numbers below 0.
    """
    return torch.where(labels < 0, -1 - torch.arange(len(labels), device=labels.device), labels)
