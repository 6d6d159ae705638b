"""Labels of a batch in which some images are unlabeled."""

import torch
from torch import Tensor


def own_classes(labels: Tensor) -> Tensor:
    """Gives every image without a label (-1) its own class.

    Args:
        labels: (B,) of the whole batch, negative for unlabeled images.

    Returns:
        (B,); the missing labels are replaced by distinct negative numbers.
    """
    return torch.where(labels < 0, -1 - torch.arange(len(labels), device=labels.device), labels)
