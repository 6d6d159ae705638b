"""Batches for repeated evaluations on one data set: prepared once where they are small, without near-duplicates of test images."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.decode import UnreadableImage
from ..data.duplicates import COLUMNS, hashes_of, near_duplicates
from ..data.evaluation_loader import evaluation_batches
from ..data.row_reader import RowReader
from ..data.sources import Rows
from ..errors import DataError
from .features import join_processes
from .inputs import share_out

CACHED_BYTES = 1 << 30  # evaluation images are kept as tensors when all of them take no more than this
_CHUNK = 256  # rows that are read at once


class Batches:
    """This process's share of a data set as batches of (pixel_values, labels); kept in memory when they are small.

    Attributes:
        all_rows: The rows of all processes, without the limit.
        too_large: Whether they are not kept, but can be read in any order.
        left_out: Rows with a label that the last pass gave none, as test images have near-duplicates of theirs.

    Args:
        rows: The data set.
        limit: How many of its rows are used at most; which, ``share_out`` says. With ``tests``, some of each class are among them.
        transform: From images to pixel values.
        batch_size: Images a batch.
        size: Side of the images, in pixels.
        tests: The test images: rows whose image is a near-duplicate of one of them have the label -1, as if they had none.
    """

    def __init__(
        self,
        rows: Rows,
        limit: int | None,
        *,
        transform: Callable[[list[Image.Image]], Tensor],
        batch_size: int,
        size: int,
        tests: "Batches | None" = None,
    ):
        count = limit if rows.num_rows is None else min(rows.num_rows, limit or rows.num_rows)
        self.all_rows = rows
        self.rows, self.transform, self.batch_size = share_out(rows, limit, tests is not None), transform, batch_size
        self.keep = count is not None and count * size * size * 12 <= CACHED_BYTES
        self.too_large = not self.keep and not rows.streaming
        self.tests, self.left_out = tests, 0
        self.kept: list | None = None
        self._hashes: np.ndarray | None = None
        self._labels: Tensor | None = None

    def __call__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches, from the first; every process must call it."""
        if self.kept is not None:
            return iter(self.kept)
        # Of all processes: here, and not in a loop over a share that may be empty.
        tests = self.tests.hashes() if self.tests else None
        self.left_out = 0
        batches = self._masked(self._first_pass(), tests)
        if not self.keep:
            return batches
        self.kept = list(batches)
        return iter(self.kept)

    def hashes(self) -> np.ndarray:
        """(M, 3) of the images of all processes; every process must call it. Images that were not read before are decoded."""
        if self._hashes is None:
            for _ in self._first_pass(lambda images: torch.zeros(len(images), 1)):
                pass
        return join_processes(torch.from_numpy(self._hashes)).numpy()

    def check(self) -> None:
        """Looks for a first image that can be read; every process must call it.

        Raises:
            DataError: No process has one.
        """
        own = next(evaluation_batches(self.rows, self.transform, 2), None) is not None
        if not bool(join_processes(torch.tensor([int(own)])).any()):
            raise DataError(
                f"there is no image to evaluate on: {self.rows.description} is empty, or none of its images can be read"
            )

    def labels(self) -> Tensor:
        """(n,) labels of all rows, -1 where there is none and for near-duplicates of test images; of map-style rows."""
        if self._labels is None:
            reader = RowReader(self.rows.dataset, labels=self.rows.labels)
            labels = torch.tensor(reader.labels(list(range(reader.num_rows))), dtype=torch.long)
            if self.tests:
                labels[torch.from_numpy(near_duplicates(self._by_position(reader), self.tests.hashes()))] = -1
            self._labels = labels
        return self._labels

    def in_order(self, positions: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of the rows at these positions, in their order; of map-style rows."""
        for pixels, labels, _ in self._read(self.rows.select(positions), self.transform):
            yield pixels, labels

    def _masked(self, batches, tests: np.ndarray | None) -> Iterator[tuple[Tensor, Tensor]]:
        for pixels, labels, hashes in batches:
            if tests is not None:
                doubled = torch.from_numpy(near_duplicates(hashes, tests))
                self.left_out += int((doubled & (labels >= 0)).sum())
                labels = labels.masked_fill(doubled, -1)
            yield pixels, labels

    def _first_pass(self, transform=None) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        """All batches with the hashes of their images, which are remembered at the end."""
        found = [np.zeros((0, COLUMNS), dtype=np.int64)]
        for batch in self._read(self.rows, transform or self.transform):
            found.append(batch[2])
            yield batch
        self._hashes = np.concatenate(found)

    def _read(self, rows: Rows, transform: Callable) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        hashes: list[np.ndarray] = []

        def hashed(images: list[Image.Image]) -> Tensor:
            hashes.append(hashes_of(images))
            return transform(images)

        for pixels, labels, *_ in evaluation_batches(rows, hashed, self.batch_size):
            labels = torch.zeros(len(pixels), dtype=torch.long) if labels is None else labels
            yield pixels, labels, np.concatenate(hashes)
            hashes.clear()

    def _by_position(self, reader: RowReader) -> np.ndarray:
        """(n, 3) of all rows; zeros for unreadable ones, which no training ever sees."""
        found = np.zeros((reader.num_rows, COLUMNS), dtype=np.int64)
        for start in range(0, reader.num_rows, _CHUNK):
            numbers = list(range(start, min(start + _CHUNK, reader.num_rows)))
            for number, image in zip(numbers, reader.images(numbers)):
                try:
                    found[number] = hashes_of([self.rows.reader.image(image)])[0]
                except UnreadableImage:
                    continue
        return found
