"""FrozenFeatures: what a frozen encoder makes of a view, which can be computed once and kept."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class FrozenFeatures(NamedTuple):
    """Features of a view that never change, as a method computes them and takes them instead of the view.

    Attributes:
        entry: The entry of a batch, (B, V, D), that ``embed`` takes in the place of the view.
        compute: Makes them of the view (B, V, C, H, W), normalized as views are; without gradients.
        size: Width D.
        fingerprint: Of the weights and of everything else of the method that they depend on.
    """

    entry: str
    compute: Callable[[Tensor], Tensor]
    size: int
    fingerprint: str
