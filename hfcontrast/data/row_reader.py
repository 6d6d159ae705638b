"""Reading rows of a map-style data set: undecoded images, labels and captions by position, and decoded samples."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
from datasets import Dataset

from hfcontrast.data.batches import Sample
from hfcontrast.data.cache import DecodedRows
from hfcontrast.data.captions import captions_of, usable_captions
from hfcontrast.data.decode import UnreadableImage, UnreadableRow
from hfcontrast.data.image_reader import ImageReader
from hfcontrast.data.label_numbers import LabelNumbers
from hfcontrast.data.shown import shown
from hfcontrast.data.tensor_columns import without_value


class RowReader:
    """Reads rows of a map-style data set with the columns ``image`` and, where labeled, ``label``.

    Args:
        dataset: The rows, images undecoded.
        columns: Further columns to read.
        captions: Where the captions are, when they are to be read (see ``find_captions``).
        tensors: The columns that must have a value in every row (see ``Rows.tensors``).
        reader: Reads the images.
        labels: The class numbers of what ``label`` holds.

    Attributes:
        cache: Keeps the decoded images, where they are to be kept.
    """

    def __init__(
        self,
        dataset: Dataset,
        columns: tuple[str, ...] = (),
        captions: tuple[str, ...] | None = None,
        tensors: tuple[str, ...] = (),
        reader: ImageReader | None = None,
        labels: LabelNumbers | None = None,
    ):
        self.reader = reader or ImageReader()
        dataset = dataset.with_format("arrow")  # whole batches without a conversion a row
        self.num_rows = len(dataset)
        self.columns = columns
        self.tensors = tensors
        self.labeled = "label" in dataset.column_names
        self.cache: DecodedRows | None = None
        self._images = dataset.select_columns(["image"])
        self._further = dataset.select_columns(list(columns)) if columns else None
        self._path = captions
        self._captions = dataset.select_columns([captions[0]]) if captions else None
        if self.labeled:
            self._labels = (labels or LabelNumbers()).of_column(dataset.select_columns(["label"])[:]["label"])

    def images(self, rows: Sequence[int]) -> list[dict | None]:
        """The undecoded images of some rows."""
        return self._images[rows]["image"].to_pylist()

    def labels(self, rows: list[int]) -> list[int]:
        """The labels of some rows, -1 where a row has none; empty where no row has one."""
        return self._labels[rows].tolist() if self.labeled else []

    def captions(self, rows: Sequence[int]) -> list:
        """What some rows hold as captions: texts or lists of them; None for each where captions are not read."""
        if self._path is None:
            return [None] * len(rows)
        column = self._path[0]
        return [captions_of({column: value}, self._path) for value in self._captions[rows][column].to_pylist()]

    def read(self, rows: list[int], epoch: int) -> Iterator[tuple[int, Sample | UnreadableRow, str]]:
        """Each row with its sample, or why there is none, and the row's name."""
        kept = [None if self.cache is None else self.cache.get(row) for row in rows]
        missing = [row for row, pixels in zip(rows, kept, strict=True) if pixels is None]
        images = iter(self.images(missing) if missing else [])
        extra, captions = self._extra(rows), self.captions(rows)
        for position, (row, pixels) in enumerate(zip(rows, kept, strict=True)):
            label = int(self._labels[row]) if self.labeled else -1
            image = next(images) if pixels is None else None
            try:
                if cause := without_value(extra[position], self.columns, self.tensors):
                    raise UnreadableRow(cause)
                texts = usable_captions(captions[position]) if self._path else None
                pixels = self._decode(row, image) if pixels is None else pixels
                yield row, Sample(pixels, row, epoch, row, label, extra[position], texts), ""
            except UnreadableRow as error:
                yield row, error, self.name(row)

    def decode(self, rows: Sequence[int]) -> None:
        """Decodes those of some rows that the cache has not had yet, into it."""
        if self.cache is None or not (missing := self.cache.missing(rows)):
            return
        for row, image in zip(missing, self.images(missing), strict=True):
            with contextlib.suppress(UnreadableImage):  # which ``read`` tells
                self._decode(row, image)

    def _decode(self, row: int, image: dict | None) -> np.ndarray:
        try:
            pixels = self.reader.pixels(image)
        except UnreadableImage:
            if self.cache is not None:
                self.cache.put(row, None)
            raise
        if self.cache is not None:
            self.cache.put(row, pixels)
        return pixels

    def _extra(self, rows: list[int]) -> list[tuple]:
        if not self.columns:
            return [()] * len(rows)
        table = self._further[rows]
        return list(zip(*(table[column].to_pylist() for column in self.columns), strict=True))

    def name(self, row: int) -> str:
        """How a row is named in messages."""
        return row_name(row, self.images([row])[0])


def row_name(place: int, image: dict | bytes | None) -> str:
    """How a row is named in messages: by its place in the data set, and the file of its image where that has a name."""
    path = image.get("path") if isinstance(image, dict) else None
    return f"row {place} ({shown(path)})" if path else f"row {place}"
