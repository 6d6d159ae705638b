"""ViewDataset: the views of a method as a map-style dataset of torch, for anybody's ``DataLoader``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from torch.utils import data

from hfcontrast.data.augment.color import ColorAugmentation
from hfcontrast.data.augment.execution import compile_loops
from hfcontrast.data.batches import BatchBuilder
from hfcontrast.data.captions import CaptionReader
from hfcontrast.data.image_reader import detail_of
from hfcontrast.data.row_reader import RowReader
from hfcontrast.data.samples import samples_of
from hfcontrast.data.sources import Rows, Source, load_rows, rows_of
from hfcontrast.data.unreadable import UnreadableRows
from hfcontrast.errors import DataError
from hfcontrast.view import View, check_views

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ViewDataset(data.Dataset):
    """The augmented views of images, by number: those that a run of the same seed has of a row in an epoch.

    A sample is a dict of tensors: under each view's key float32 (V, C, H, W), normalized; ``index``, the row's position; ``labels``
    where the rows have labels, -1 where one has none; ``input_ids`` and ``attention_mask`` where captions are read; further columns
    as they are. The default ``collate_fn`` of torch stacks them to what a method takes: ``pixel_values`` (B, V, C, H, W), ``index`` (B,).

    .. code-block:: python

        views = ViewDataset("/my/images", method.views, seed=0)
        loader = DataLoader(views, batch_size=256, shuffle=True, drop_last=True, num_workers=4)
        for epoch in range(epochs):
            views.set_epoch(epoch)  # transformers' Trainer and LightningMethod call it by themselves
            for batch in loader:
                ...

    All is done in the workers, on the CPU. An unreadable row is named in a warning, and a drawn one takes its place.

    Args:
        rows: What to read: a path as in :func:`~hfcontrast.data.load_rows`, a ``datasets.Dataset`` that is open, or ``Rows``.
        views: The views of the method.
        seed: What every view is drawn from.
        mean: Mean of each color by which the images are normalized, for values in [0, 1]; ImageNet's by default. An encoder with released
            weights needs that of its image processor.
        std: Standard deviation of each color.
        captions: Chooses and tokenizes the captions, of rows that were loaded with ``captioned=True``.
        max_unreadable: The share of unreadable rows above which a worker stops.

    Raises:
        DataError: The rows cannot be opened, or are a stream.
        ValueError: The views do not fit each other.
    """

    def __init__(
        self,
        rows: Rows | Dataset | Source | str,
        views: Sequence[View],
        *,
        seed: int = 0,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        captions: CaptionReader | None = None,
        max_unreadable: float = 0.01,
    ):
        check_views(tuple(views))
        self.rows, self.views, self.seed = _opened(rows), tuple(views), seed
        rows = self.rows
        images = replace(rows.reader, detail=detail_of(self.views))
        path = captions.path if captions else None
        self._reader = RowReader(rows.dataset, rows.columns, path, rows.tensors, images, rows.labels)
        self._builder = BatchBuilder(self.views, seed, rows.labeled, rows.columns, captions, rows.tensors, rows.labels)
        self._augmentation = ColorAugmentation(self.views, mean, std, channels_last=False)
        self._unreadable = UnreadableRows(rows.description, max_unreadable, rows.num_rows)
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # workers that live on see what is set
        compile_loops("cpu")

    def __len__(self) -> int:
        return self._reader.num_rows

    @property
    def epoch(self) -> int:
        """The epoch of which the views are."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, of which the views are a function, before a loader is gone through again; all workers see it.

        Args:
            epoch: Passes over the data so far.
        """
        self._epoch.fill_(epoch)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The samples of several rows, which torch's ``DataLoader`` asks for at once: that is faster than one by one.

        Raises:
            IndexError: There is no such row.
            DataError: Too many rows are unreadable.
        """
        wanted = [_place(row, len(self)) for row in rows]
        unreadable: dict[str, str] = {}
        samples = samples_of(self._reader, wanted, self.epoch, self.seed, unreadable)
        batch = self._augmentation(self._builder.build(samples, len(wanted)), "cpu")
        self._unreadable.add(unreadable)
        return [{name: values[number] for name, values in batch.items()} for number in range(len(wanted))]


def _place(row: int, count: int) -> int:
    place = int(row)
    if not -count <= place < count:
        raise IndexError(f"there is no row {place} among {count}")
    return place % count


def _opened(rows: Any) -> Rows:
    """The rows of a path or a data set, map-style.

    Raises:
        DataError: They are a stream, or a dict of splits.
    """
    if isinstance(rows, DatasetDict | IterableDatasetDict):
        raise DataError(f"expected one split, got all of them: take one, such as dataset[{next(iter(rows))!r}]")
    if isinstance(rows, IterableDataset) or (isinstance(rows, Rows) and rows.streaming):
        raise DataError(
            "a stream has no rows by number: take hfcontrast.data.TrainLoader, or load it with streaming=False"
        )
    if isinstance(rows, Rows):
        return rows
    if isinstance(rows, Dataset):
        return rows_of(rows, len(rows), "the data set")
    return load_rows(rows if isinstance(rows, Source) else str(rows))
