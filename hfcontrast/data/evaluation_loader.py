"""Evaluation batches: every readable row once, in order, through an image processor."""

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hfcontrast.data.decode import UnreadableImage
from hfcontrast.data.in_parts import in_parts
from hfcontrast.data.row_reader import RowReader, row_name
from hfcontrast.data.sources import Rows
from hfcontrast.data.stream_errors import read_batches
from hfcontrast.progress import LongTask

logger = logging.getLogger(__name__)


def evaluation_batches(
    rows: Rows,
    transform: Callable[[list[Image.Image]], torch.Tensor],
    batch_size: int,
    workers: int = 0,
    limit: int | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None, int]]:
    """Decodes and transforms the rows in order.

    Rows that cannot be read are left out, with one warning at the end that counts those that no evaluation of them has met before.

    Args:
        rows: What to read.
        transform: Turns a list of images (see ``ImageReader.image``) into a float tensor (B, C, H, W).
        batch_size: Rows of a batch, before unreadable ones are left out.
        workers: Worker processes; of a stream, which has one order only, at most one is used.
        limit: How many rows to read at most.

    Yields:
        Pixel values (B, C, H, W), labels (B,) int64 or None where the rows have none, and how many rows were kept (B);
        a batch of which nothing could be read is left out.
    """
    dataset = _EvaluationRows(rows, transform, batch_size, limit)
    workers = min(workers, 1) if rows.streaming else workers
    # Its own generator: the loader would take a number from the global one.
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, collate_fn=_as_it_is, generator=generator)
    unreadable: dict[str, str] = {}
    count = rows.num_rows if rows.num_rows is None or limit is None else min(limit, rows.num_rows)
    with LongTask(f"preparing the images of {rows.description}", count) as task:
        for pixel_values, labels, failures in loader:
            task.update(len(failures) + (0 if pixel_values is None else len(pixel_values)))
            unreadable |= failures
            if pixel_values is not None:
                yield pixel_values, labels, len(pixel_values)
    new = [f"{name}: {cause}" for name, cause in unreadable.items() if name not in rows.unreadable]
    rows.unreadable.update(unreadable)
    if new:
        images = "1 image" if len(new) == 1 else f"{len(new)} images"
        told = "it cannot be read:" if len(new) == 1 else "they cannot be read, e.g."
        logger.warning("%s of %s left out, as %s %s", images, rows.description, told, "; ".join(new[:3]))


def _as_it_is(item: Any) -> Any:
    return item


class _EvaluationRows(IterableDataset):
    """Batches of transformed rows; of several workers each makes every n-th."""

    def __init__(self, rows: Rows, transform: Callable, batch_size: int, limit: int | None):
        self.rows = rows
        self.transform = transform
        self.batch_size = batch_size
        self.limit = limit

    def __iter__(self) -> Iterator[tuple[torch.Tensor | None, torch.Tensor | None, dict[str, str]]]:
        for images, labels, places in self._stream_batches() if self.rows.streaming else self._map_batches():
            yield self._make(images, labels, places)

    def _map_batches(self) -> Iterator[tuple[list, list, list[int]]]:
        reader = RowReader(self.rows.dataset, labels=self.rows.labels)
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        places = np.arange(reader.num_rows) if self.rows.chosen is None else self.rows.chosen
        count = reader.num_rows if self.limit is None else min(self.limit, reader.num_rows)
        for start in range(first * self.batch_size, count, stride * self.batch_size):
            numbers = list(range(start, min(start + self.batch_size, count)))
            yield reader.images(numbers), reader.labels(numbers), places[numbers[0] : numbers[-1] + 1].tolist()

    def _stream_batches(self) -> Iterator[tuple[list, list, list[int]]]:
        places = self.rows.places()
        dataset = self.rows.dataset if self.limit is None else self.rows.dataset.take(self.limit)
        for batch in read_batches(dataset, self.batch_size, self.rows.description, self.rows.shard_files):
            labels = batch.get("label", [])
            numbers = list(itertools.islice(places, len(batch["image"])))
            yield batch["image"], [*map(self.rows.labels.number, labels)], numbers

    def _make(
        self, images: list, labels: list, places: list[int]
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, dict[str, str]]:
        kept: list[int] = []
        failures: dict[str, str] = {}

        def decoded() -> Iterator[Image.Image]:
            for number, image in enumerate(images):
                try:
                    opened = self.rows.reader.image(image)
                except UnreadableImage as error:
                    failures[row_name(places[number], image)] = str(error)
                    continue
                kept.append(number)
                yield opened

        pixel_values = in_parts(decoded(), self.transform)
        labeled = pixel_values is not None and bool(labels)
        return pixel_values, torch.tensor([labels[number] for number in kept]) if labeled else None, failures
