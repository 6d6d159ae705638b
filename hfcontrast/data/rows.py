"""Rows: images with or without labels, captions and further columns, undecoded, of one split."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Unpack

import numpy as np
from datasets import ClassLabel, Dataset, IterableDataset

from hfcontrast.data.captions import all_captions, captions_of
from hfcontrast.data.columns import ColumnKeywords, Columns, in_archive, locate_captions, select_columns
from hfcontrast.data.fingerprint import fingerprint_of_rows, fingerprint_of_some
from hfcontrast.data.image_reader import ImageReader
from hfcontrast.data.label_numbers import LabelNumbers
from hfcontrast.data.labels import texts_among
from hfcontrast.data.row_identities import of_files
from hfcontrast.data.stream_errors import reading
from hfcontrast.data.tensor_columns import check_tensor_columns
from hfcontrast.errors import DataError
from hfcontrast.progress import LongTask


@dataclass(frozen=True)
class Rows:
    """Images with or without labels, undecoded.

    Attributes:
        dataset: Columns ``image`` (``Image(decode=False)``: a dict of ``bytes`` and ``path``), ``label`` where there
            are labels, and the further columns that were asked for.
        num_rows: How many rows there are; None where a stream does not know.
        class_names: Names of the classes by label; None where there are none.
        streaming: Whether ``dataset`` is an ``IterableDataset``.
        description: A description, for messages.
        columns: The further columns.
        captions: Where the captions are, from the column inwards; None where they were not asked for.
        tensors: The columns that are batched as tensors, by their own names: further columns, and that of the labels.
        starts: For each shard of a stream how many rows are before it; None where that is not known.
        reader: How its images are read.
        files: Fingerprint of the files of a stream, or of the rows that it was made of; None where that is not known.
        labels: The class numbers of what ``label`` holds, which of a stream may be texts.
        remote: Whether a stream's files are elsewhere, so that each row that is passed over is fetched too.
        shard_files: The file of each shard of a stream; empty where that is not known.
        row_ids: Computes the identities of all rows of the split, (N,) uint64; None where they are not known.
        chosen: Which rows of the split these are, of a map-style set: (num_rows,) their places; None where they are all of them.
        conditions: What the rows of a stream fulfill, one after the other: of their place among those that fulfill the former.
        not_used: How many files or images of the source are no rows of any split, by cause.
        unreadable: The rows of the split that an evaluation could not read so far, by their names, each with the cause.
        not_labels: The column whose texts were not taken for labels, as rows seldom share one; None where there is none.
        whole: The rows of which these are some; None where they are all that were opened.
        known: The fingerprint, once it was computed, and what was said of the rows.
    """

    dataset: Dataset | IterableDataset
    num_rows: int | None
    class_names: list[str] | None
    streaming: bool
    description: str
    columns: tuple[str, ...] = ()
    captions: tuple[str, ...] | None = None
    tensors: tuple[str, ...] = ()
    starts: tuple[int, ...] | None = None
    reader: ImageReader = ImageReader()
    files: str | None = None
    labels: LabelNumbers = LabelNumbers()
    remote: bool = False
    shard_files: tuple[str, ...] = ()
    row_ids: Callable[[], np.ndarray | None] | None = None
    chosen: np.ndarray | None = None
    conditions: tuple[Callable[[int], bool], ...] = ()
    not_used: Mapping[str, int] = field(default_factory=dict, compare=False)
    unreadable: dict[str, str] = field(default_factory=dict, compare=False)
    not_labels: str | None = field(default=None, compare=False)
    whole: "Rows | None" = field(default=None, compare=False, repr=False)
    known: dict[str, str | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def labeled(self) -> bool:
        """Whether the rows have labels."""
        return "label" in self.dataset.features

    def has_labels(self) -> bool:
        """Whether some row has a label; of a stream, whether it has a column of them."""
        labels = self.class_numbers()
        return self.labeled if labels is None else bool((labels >= 0).any())

    def class_numbers(self) -> np.ndarray | None:
        """(N,) the class number of each row, -1 where it has none; None without labels and of a stream, whose labels are read with it."""
        if self.streaming or not self.labeled:
            return None
        return self.labels.of_column(self.dataset.select_columns(["label"]).with_format("arrow")[:]["label"])

    def has_captions(self) -> bool:
        """Whether some row has a caption that can be used; of a stream, whether it has a column of them."""
        if self.streaming or self.captions is None:
            return self.captions is not None
        values = (captions_of(row, self.captions) for row in self.dataset.select_columns([self.captions[0]]))
        return next(all_captions(values), None) is not None

    def fingerprint(self, further: bool = True) -> str | None:
        """A hash of what these rows are, wherever they are kept; None of a stream of which nothing is known.

        Args:
            further: Whether captions and other further columns count, beside images and labels; those of a stream always do.
        """
        further = further and not {"image", "label"}.issuperset(self.dataset.column_names or ("all",))
        name = "all columns" if further else "images and labels"
        if name not in self.known:
            self.known[name] = self._fingerprint(further)
        return self.known[name]

    def _fingerprint(self, further: bool) -> str | None:
        if self.whole is not None:  # reading some rows of a large file would read all that lies between them
            whole, everything = self.whole.fingerprint(further), np.arange(self.whole.num_rows or 0)
            if whole is None or (self.chosen is not None and np.array_equal(self.chosen, everything)):
                return whole
            return fingerprint_of_some(whole, self.chosen, self.num_rows)
        if self.streaming:
            return self.files
        with LongTask(f"computing the fingerprint of {self.description}"):
            own = [column for column in self.dataset.column_names if further or column in ("image", "label")]
            return fingerprint_of_rows(self.dataset.select_columns(own))

    def identities(self) -> np.ndarray | None:
        """(N,) uint64, equal for rows that are the same under other splits or slices (see ``row_identities``); None where not known."""
        if not self.streaming and (files := of_files(self.dataset)) is not None:
            return files
        if self.row_ids is None or self.num_rows is None:
            return None
        found = self.row_ids()
        if found is None or (self.chosen is None and not self.conditions):
            return found
        return found[np.fromiter(itertools.islice(self.places(), self.num_rows), dtype=np.int64, count=self.num_rows)]

    def select(self, indices: Sequence[int] | np.ndarray) -> "Rows":
        """Some of the rows of a map-style set."""
        dataset = self.dataset.select(indices)
        chosen = np.asarray(indices, dtype=np.int64)
        if self.chosen is not None:
            chosen = self.chosen[chosen]
        return replace(self, dataset=dataset, num_rows=len(dataset), chosen=chosen, whole=self.whole or self, known={})

    def places(self) -> Iterator[int]:
        """The place of each row in the split, in their order."""
        if not self.streaming:
            return iter(range(self.num_rows) if self.chosen is None else map(int, self.chosen))
        places: Iterator[int] = itertools.count()
        for wanted in self.conditions:
            places = _fulfilling(wanted, places)
        return places

    def where(self, wanted: Callable[[int], bool], limit: int | None = None) -> "Rows":
        """The first ``limit`` rows (all without one) whose position fulfils a condition; of a stream or a map-style set."""
        if not self.streaming:
            return self.select([i for i in range(min(limit or self.num_rows, self.num_rows)) if wanted(i)])
        dataset = self.dataset if limit is None else self.dataset.take(limit)
        dataset = dataset.filter(lambda _, position: wanted(position), with_indices=True)
        size = limit if self.num_rows is None else min(limit or self.num_rows, self.num_rows)
        size = None if size is None else sum(map(wanted, range(size)))
        conditions = (*self.conditions, wanted)
        own = {"dataset": dataset, "num_rows": size, "starts": None, "files": None, "conditions": conditions}
        return replace(self, **own, whole=self.whole or self, known={})


def _fulfilling(wanted: Callable[[int], bool], places: Iterator[int]) -> Iterator[int]:
    """Those whose number among them fulfils a condition."""
    return (place for number, place in enumerate(places) if wanted(number))


def rows_of(
    dataset: Dataset | IterableDataset,
    num_rows: int | None,
    description: str,
    *,
    columns: Columns | Sequence[str] = (),
    **keywords: Unpack[ColumnKeywords],
) -> Rows:
    """Rows of a data set that is open already.

    Args:
        dataset: Map-style or streaming.
        num_rows: How many rows there are; None where a stream does not know.
        description: A description, for messages.
        columns: What is read of a row: ``Columns``, or the names of further columns beside the keywords.
        keywords: The other fields of ``Columns``: ``image_column``, ``image_key``, ``label_column``,
            ``caption_column``, ``captioned``, ``tensors``.

    Raises:
        DataError: A column does not exist or holds something else.
    """
    chosen = Columns.of(columns, **keywords)
    if dataset.features is None:  # some streams know their columns only after a look at the first rows
        with reading(description):
            dataset = dataset._resolve_features()
    chosen = in_archive(chosen, dataset.features, description)
    captions = None
    if chosen.captioned:
        try:
            captions = locate_captions(dataset.features, chosen.caption, description)
        except DataError:
            if chosen.captioned != "auto" or chosen.caption is not None:
                raise
    check_tensor_columns(dataset.features, chosen.tensors, description)
    wanted = (*chosen.further, *chosen.tensors, *(captions[:1] if captions else ()))
    features = dataset.features
    dataset, kept, numbers = select_columns(dataset, description, chosen.image, chosen.label, wanted)
    label = dataset.features.get("label")
    not_labels = texts_among(features) if label is None and chosen.label is None else None
    class_names = list(label.names) if isinstance(label, ClassLabel) else None
    further = tuple(column for column in kept if column in (*chosen.further, *chosen.tensors))
    streaming = isinstance(dataset, IterableDataset)
    tensors = tuple(chosen.tensors)
    rows = Rows(dataset, num_rows, class_names, streaming, description, further, captions, tensors, labels=numbers)
    return replace(rows, not_labels=not_labels)
