"""Source: where rows come from, before a split is chosen, and what each kind of source offers."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict

from datasets import Dataset, IterableDataset


@dataclass(frozen=True)
class Source:
    """Where rows come from; as in ``datasets.load_dataset``.

    Attributes:
        path: Anything that ``datasets.load_dataset`` takes (the name of a Hub data set, ``imagefolder``, ``parquet``,
            ``webdataset``, a folder), a folder that ``save_to_disk`` wrote, or ``builtin/NAME``.
        name: The configuration, where the data set has several.
        data_dir: As in ``load_dataset``.
        data_files: As in ``load_dataset``.
        revision: The version of a Hub data set.
    """

    path: str
    name: str | None = None
    data_dir: str | None = None
    data_files: str | list | dict | None = None
    revision: str | None = None

    @property
    def folder(self) -> Path:
        """The path as a folder of this machine, whether there is one or not."""
        return Path(os.path.expanduser(self.path))  # a ~NAME that is nobody's stays what it is


class SourceKeywords(TypedDict, total=False):
    """The fields of a ``Source`` beside its path, as keywords of a function."""

    name: str | None
    data_dir: str | None
    data_files: str | list | dict | None
    revision: str | None


class Opened(NamedTuple):
    """One split, opened.

    Attributes:
        dataset: Its rows.
        sizes: How many rows each shard has; None where that is not known.
        files: The fingerprint of a stream's files, or of the rows that it was made of; None where that is not known.
    """

    dataset: Dataset | IterableDataset
    sizes: list[int] | None
    files: str | None


class Kind(Protocol):
    """What the module of a kind of source has."""

    def takes(self, source: Source) -> bool:
        """Whether a source is of this kind."""

    def splits(self, source: Source) -> list[str]:
        """The names of its splits. Raises DataError where it cannot be opened."""

    def open_split(self, source: Source, split: str, streaming: bool) -> Opened:
        """Opens one split. Raises DataError where it cannot be opened."""
