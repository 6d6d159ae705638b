"""ViewDataset: the views of a method as a map-style dataset of torch, for anybody's ``DataLoader``."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from torch.utils import data

from hfcontrast.data.argument_names import as_arguments, naming_arguments
from hfcontrast.data.augment.color import ColorAugmentation
from hfcontrast.data.augment.execution import compile_loops
from hfcontrast.data.batches import BatchBuilder
from hfcontrast.data.captions import CaptionReader
from hfcontrast.data.image_reader import detail_of
from hfcontrast.data.row_reader import RowReader
from hfcontrast.data.samples import samples_of
from hfcontrast.data.sources import Rows, Source, load_rows, rows_of
from hfcontrast.data.unreadable import UnreadableRows
from hfcontrast.errors import ArgumentError, DataError
from hfcontrast.view import View, as_views

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
        rows: What to read: a path as in :func:`~hfcontrast.data.load_rows`, a ``datasets.Dataset`` that is open, or ``Rows``. Images in
            memory become a data set by ``Dataset.from_dict({"image": images}, features=Features(image=Image()))`` of ``datasets``.
        views: The views of the method.
        seed: What every view is drawn from.
        mean: Mean of each color by which the images are normalized, for values in [0, 1]; ImageNet's by default. An encoder with released
            weights needs that of its image processor.
        std: Standard deviation of each color.
        captions: Chooses and tokenizes the captions, of rows that were loaded with ``captioned=True``.
        max_unreadable: The share of unreadable rows above which a worker stops.
        split: The split of a path, or a slice of one; None: ``train``.
        image_column: The column with the images, of a path or a data set; None looks for it.
        label_column: The column with the labels; None looks for it.

    Raises:
        DataError: The rows cannot be opened, or are a stream.
        ArgumentError: An argument is something else than what is said here.
        ValueError: The views are none, or do not fit each other.
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
        split: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
    ):
        self.views, self.seed = as_views(views), seed
        columns = {"image_column": image_column, "label_column": label_column}
        with naming_arguments():
            self.rows = rows = _opened(
                rows, split, {name: value for name, value in columns.items() if value is not None}
            )
        for name, values in (("mean", mean), ("std", std)):
            _check_per_channel(name, values, rows.reader.channels)
        if rows.reader.channels != 3:
            self.views = tuple(view.without_color() for view in self.views)
        images = replace(rows.reader, detail=detail_of(self.views))
        path = captions.path if captions else None
        self._reader = RowReader(rows.dataset, rows.columns, path, rows.tensors, images, rows.labels)
        self._builder = BatchBuilder(
            self.views,
            seed,
            rows.labeled,
            rows.columns,
            captions,
            rows.tensors,
            rows.labels,
            channels=rows.reader.channels,
        )
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
            ArgumentError: A row is no number, such as a slice.
            IndexError: There is no such row.
            DataError: Too many rows are unreadable.
        """
        wanted = [_place(row, len(self)) for row in rows]
        unreadable: dict[str, str] = {}
        samples = samples_of(self._reader, wanted, self.epoch, self.seed, unreadable)
        batch = self._augmentation(self._builder.build(samples, len(wanted)), "cpu")
        with naming_arguments():
            self._unreadable.add({name: as_arguments(cause) for name, cause in unreadable.items()})
        return [{name: values[number] for name, values in batch.items()} for number in range(len(wanted))]


def _place(row: Any, count: int) -> int:
    if not hasattr(row, "__index__"):
        raise ArgumentError(
            f"a row is asked for by its number, and not by {row!r}: some of them are torch.utils.data.Subset(views, range(0, 2))"
        )
    place = int(row)
    if not -count <= place < count:
        raise IndexError(f"there is no row {place} among {count}")
    return place % count


def _check_per_channel(name: str, values: Any, channels: int) -> None:
    """Refuses what has not one number for each channel."""
    try:
        count = len([float(value) for value in values])
    except (TypeError, ValueError):
        count = None
    if count != channels:
        raise ArgumentError(
            f"{name}: got {values!r}, expected one number for each of the {channels} channels of the images", name
        )


def _opened(rows: Any, split: str | None, columns: dict[str, Any]) -> Rows:
    """The rows of a path or a data set, map-style.

    Raises:
        ArgumentError: They are something else, or open with what would choose among them.
        DataError: They are a stream, or a dict of splits.
    """
    if isinstance(rows, DatasetDict | IterableDatasetDict):
        raise DataError(f"expected one split, got all of them: take one, such as dataset[{next(iter(rows))!r}]")
    if isinstance(rows, IterableDataset) or (isinstance(rows, Rows) and rows.streaming):
        raise DataError(
            "a stream has no rows by number: take hfcontrast.data.TrainLoader, or load it with streaming=False"
        )
    if isinstance(rows, Rows | Dataset) and split is not None:
        raise ArgumentError(f"split: {split!r} is a split of a path, and rows are open already: leave it out", "split")
    if isinstance(rows, Rows):
        if columns:
            name = next(iter(columns))
            raise ArgumentError(f"{name}: the columns of Rows are chosen already: give it to load_rows", name)
        return rows
    if isinstance(rows, Dataset):
        return rows_of(rows, len(rows), "the data set", **columns)
    if isinstance(rows, str | os.PathLike):
        rows = os.fspath(rows)
    elif not isinstance(rows, Source):
        raise ArgumentError(
            f"rows: got {type(rows).__name__}, expected a path, a datasets.Dataset or Rows: of paths, PIL images or arrays (H, W, C) of uint8 "
            'datasets.Dataset.from_dict({"image": images}, features=datasets.Features(image=datasets.Image())) makes one',
            "rows",
        )
    return load_rows(rows, split=split or "train", **columns)
