"""Rows of an evaluation whose features are there already."""

from collections.abc import Callable

from torch import Tensor
from transformers import PreTrainedModel

from .features import RawPixels
from .rows import EvaluationRows


class FeatureRows(EvaluationRows):
    """Rows with precomputed features, independent of the encoder: for evaluators that need nothing else.

    Args:
        train: Features (N, D) and labels (N,), below 0 where there is none.
        test: The same of the test images.
    """

    def __init__(self, train: tuple[Tensor, Tensor] | None, test: tuple[Tensor, Tensor]):
        super().__init__(tuple, None if train is None else tuple)
        self._given = {"train": train, "test": test}

    def _of(self, which: str, encoder: PreTrainedModel | RawPixels, batches: Callable) -> tuple[Tensor, Tensor]:
        return self._given[which]
