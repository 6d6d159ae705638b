"""Batches: decoded samples to the buffers of uint8 crops and the parameters that travel to the training process."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from hfcontrast.data.augment.crops import CropCutter
from hfcontrast.data.augment.draws import PARAMETERS, SUFFIX, draw_views
from hfcontrast.data.captions import CaptionReader
from hfcontrast.data.label_numbers import LabelNumbers
from hfcontrast.data.tensor_columns import stacked
from hfcontrast.view import View

_PIXELS_AT_ONCE = 16_000_000  # decoded images that wait for their crops: about 50 MB


class Sample(NamedTuple):
    """One decoded row.

    Attributes:
        pixels: (H, W, C) uint8.
        id: What the row's random numbers are drawn from, besides seed and epoch.
        epoch: The epoch or pass that the row is drawn in.
        index: Position of the row in the data set.
        label: Class number, -1 where there is none.
        extra: The values of the further columns.
        captions: The usable captions, where captions are read.
    """

    pixels: np.ndarray
    id: int
    epoch: int
    index: int  # type: ignore[assignment]  # of a tuple, a method
    label: int
    extra: tuple = ()
    captions: list[str] | None = None


class BatchBuilder:
    """Cuts samples into batches.

    Args:
        views: The views of the method.
        seed: The run's seed.
        labeled: Whether batches have ``labels``.
        columns: Names of further columns, handed on as lists.
        captions: Reads the captions, where there are to be some.
        tensors: What is batched as a tensor: further columns by name; any other is the labels' by its own name.
        labels: The class numbers of the labels of a stream.
        without: Keys of views that are not cut. Batches then have ``crop_epoch`` (rows,) int64, the epoch in which crops are drawn.
        channels: Of the images.

    Attributes:
        cut_off: Captions of the last batch that were longer than the tokens that they may have.
    """

    def __init__(
        self,
        views: tuple[View, ...],
        seed: int,
        labeled: bool,
        columns: tuple[str, ...] = (),
        captions: CaptionReader | None = None,
        tensors: tuple[str, ...] = (),
        labels: LabelNumbers | None = None,
        without: frozenset[str] = frozenset(),
        channels: int = 3,
    ):
        self.views = views
        self.without = without
        self.channels = channels
        self.seed = seed
        self.labeled = labeled
        self.columns = columns
        self.captions = captions
        self.tensors = tensors
        self.labels = labels or LabelNumbers()
        self.cutter = CropCutter(tuple(view for view in views if view.key not in without), channels)
        self.cut_off = 0

    def build(self, samples: Iterator[Sample], rows: int) -> dict:
        """Takes the next samples and makes one batch of them.

        Args:
            samples: Where they come from; no more are taken than needed.
            rows: How many.

        Returns:
            For each key uint8 (rows, V, size, size, C) and under ``{key}_color`` float32 (rows, V, 14); ``index``
            (rows,) int64; ``labels`` (rows,) int64 where the rows are labeled; ``input_ids`` and ``attention_mask``
            (rows, T) int64 where captions are read; further columns as lists, or as tensors (rows, ...) where a method
            takes them.
        """
        crops = self.cutter.allocate(rows)
        parameters = {key: torch.empty(rows, shape[0], PARAMETERS) for key, shape in self.cutter.buffers.items()}
        taken: list[Sample] = []
        waiting: list[Sample] = []
        pixels = 0
        for _ in range(rows):
            sample = next(samples)
            # Samples wait for each other, so that their random numbers are drawn at once.
            if waiting and (sample.epoch != waiting[0].epoch or pixels > _PIXELS_AT_ONCE):
                self._cut(waiting, crops, parameters, len(taken) - len(waiting))
                waiting, pixels = [], 0
            waiting.append(sample)
            pixels += sample.pixels.shape[0] * sample.pixels.shape[1]
            taken.append(sample._replace(pixels=None))
        self._cut(waiting, crops, parameters, rows - len(waiting))
        batch: dict[str, Any] = crops | {key + SUFFIX: values for key, values in parameters.items()}
        batch["index"] = torch.tensor([sample.index for sample in taken])
        if self.without:
            batch["crop_epoch"] = torch.tensor([sample.epoch for sample in taken])
        if self.labeled:
            batch["labels"] = torch.tensor([sample.label for sample in taken])
        for number, column in enumerate(self.columns):
            batch[column] = [sample.extra[number] for sample in taken]
        for name in self.tensors:
            batch[name] = stacked(name, batch[name]) if name in self.columns else batch["labels"]
        return batch | (self._tokens(taken) if self.captions else {})

    def _tokens(self, samples: list[Sample]) -> dict[str, torch.Tensor]:
        chosen: list[str] = []
        for epoch, some in itertools.groupby(samples, key=lambda sample: sample.epoch):
            of_epoch = list(some)
            captions = [sample.captions for sample in of_epoch]
            chosen += self.captions.choose(captions, self.seed, epoch, [sample.id for sample in of_epoch])
        tokens, self.cut_off = self.captions.tokenize(chosen)
        return tokens

    def _cut(
        self, samples: list[Sample], crops: dict[str, torch.Tensor], parameters: dict[str, torch.Tensor], start: int
    ) -> None:
        images = [sample.pixels for sample in samples]
        ids = np.array([sample.id for sample in samples], dtype=np.uint64)
        heights, widths = (np.array([image.shape[axis] for image in images]) for axis in (0, 1))
        draws = draw_views(self.views, self.seed, samples[0].epoch, ids, heights, widths)
        draws = {key: drawn for key, drawn in draws.items() if key not in self.without}
        self.cutter.cut(images, draws, crops, start)
        for key, drawn in draws.items():
            parameters[key][start : start + len(samples)] = torch.from_numpy(drawn.color)
