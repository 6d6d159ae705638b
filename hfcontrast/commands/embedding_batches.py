"""Rows that are to be embedded, batch by batch: read and prepared ahead, each batch by one of the processes."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from datasets import Dataset
from PIL import Image as PILImage
from torch import Tensor

from ..data.cache import cpus_of_this_process
from ..data.decode import UnreadableImage
from ..data.image_reader import ImageReader
from ..data.in_parts import in_parts
from ..data.shown import shown
from ..data.sources import Rows
from ..data.stream_errors import read_rows
from ..nn.distributed import rank, world_size

_OPEN = 16  # images that are decoded at once, whatever their size

T = TypeVar("T")
Transform = Callable[[list[PILImage.Image]], Tensor]


@dataclass
class Prepared:
    """Consecutive rows with their images prepared.

    Attributes:
        rows: The rows as the data set gives them; none of those that another process encodes.
        count: How many they are, also where another process encodes them.
        pixels: (R, C, H, W) of the R images that can be read; None where there are none, or images are not wanted.
        problems: Why the others cannot be, by their places among the rows.
    """

    rows: list[dict]
    count: int
    pixels: Tensor | None = None
    problems: dict[int, str] = field(default_factory=dict)


@contextmanager
def prepared_batches(
    rows: Rows, transform: Transform | None, start: int, part_rows: int, batch_size: int
) -> Iterator[Iterator[Prepared]]:
    """Gives the batches from row ``start`` on, each prepared while the one before is in use.

    Args:
        rows: The rows.
        transform: From images to pixel values; None where images are not wanted.
        start: The first row; the first one of a file.
        part_rows: Rows of a file.
        batch_size: Rows of a batch.
    """
    with ThreadPoolExecutor(cpus_of_this_process()) as threads:
        yield _ahead(_Reader(rows, transform, threads).batches(start, part_rows, batch_size))


@dataclass
class _Reader:
    """Reads rows and prepares their images by several threads."""

    rows: Rows
    transform: Transform | None
    threads: ThreadPoolExecutor

    def batches(self, start: int, part_rows: int, batch_size: int) -> Iterator[Prepared]:
        """Batches that never reach over the end of a file: so they are the same wherever a command begins, and with any number of processes."""
        there = self.rows.dataset.skip(start) if start else self.rows.dataset
        sizes = [min(batch_size, part_rows - first) for first in range(0, part_rows, batch_size)]
        batches = itertools.cycle([(size, number % world_size() == rank()) for number, size in enumerate(sizes)])
        if world_size() > 1 and self.rows.num_rows is not None and not self.rows.streaming:
            yield from self._own_rows(there, self.rows.num_rows - start, batches)
            return
        rows = read_rows(there, self.rows.description, self.rows.shard_files)
        for size, own in batches:
            taken = list(itertools.islice(rows, size))
            if not taken:
                return
            yield self._prepare(taken) if own else Prepared([], len(taken))

    def _own_rows(self, there: Dataset, count: int, batches: Iterator[tuple[int, bool]]) -> Iterator[Prepared]:
        """The same of rows that can be read by their position: those of other processes are not read."""
        first = 0
        while first < count:
            size, own = next(batches)
            places = range(first, min(first + size, count))
            first += size
            if own:
                taken = read_rows(there.select(places), self.rows.description, self.rows.shard_files)
                yield self._prepare(list(taken))
            else:
                yield Prepared([], len(places))

    def _prepare(self, rows: list[dict]) -> Prepared:
        if not self.transform:
            return Prepared(rows, len(rows))
        transform = self.transform
        problems: dict[int, str] = {}

        def decoded() -> Iterator[PILImage.Image]:
            values = [row["image"] for row in rows]
            for first in range(0, len(values), _OPEN):
                some = values[first : first + _OPEN]
                for place, opened in enumerate(self.threads.map(partial(_open_image, self.rows.reader), some), first):
                    if isinstance(opened, UnreadableImage):
                        problems[place] = str(opened)
                    else:
                        yield opened

        return Prepared(rows, len(rows), in_parts(decoded(), transform), problems)


def _open_image(reader: ImageReader, value: dict | None) -> PILImage.Image | UnreadableImage:
    try:
        return reader.image(value)
    except UnreadableImage as error:
        path = (value or {}).get("path")
        return UnreadableImage(f"{shown(path)}: {error}") if path else error


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each of them begun while the one before is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
