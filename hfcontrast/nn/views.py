"""Running a network on one view at a time, for batch statistics per view."""

from collections.abc import Callable

import torch
from torch import Tensor


def view_by_view(network: Callable[[Tensor], Tensor], views: Tensor) -> Tensor:
    """Applies a network to each view in a separate pass, so that batch normalization does not mix views.

    The authors of BYOL and SimSiam do so; those of SimCLR run all views in one pass, which is faster. Views with
    different augmentations have different statistics.

    Args:
        network: Maps (B, ...) to (B, D).
        views: (B, V, ...).

    Returns:
        (B, V, D).
    """
    return torch.stack([network(view) for view in views.unbind(dim=1)], dim=1)
