"""Source: where rows come from, before a split is chosen, and what each kind of source offers."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np
from datasets import Dataset, IterableDataset

from hfcontrast.errors import DataError
from hfcontrast.paths import local_path

FORMATS = ("imagefolder", "parquet", "webdataset", "arrow", "json", "csv")  # of files of any place


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
        return Path(local_path(self.path))

    def title(self, split: str) -> str:
        """What messages call it: its path; files of a format by their folder, or by the first file of a split.

        Args:
            split: The split, or an expression of several.
        """
        if self.path not in FORMATS:
            return str(self.path)
        files = self.data_files
        if isinstance(files, dict):
            files = files.get(split_names(split)[0]) or next(iter(files.values()), None)
        first = files if isinstance(files, str) or not files else files[0]
        return str(self.data_dir or first or self.path)

    def resolved(self) -> "Source":
        """The source with its local paths as this machine has them (see ``local_path``)."""
        if hasattr(self.path, "dataset"):  # open already
            return self
        path = local_path(self.path)
        base = path if os.path.isdir(path) else ""
        data_dir = None if self.data_dir is None else local_path(self.data_dir, base)
        data_files = each_pattern(
            self.data_files, lambda pattern: local_path(pattern, os.path.join(base, data_dir or ""))
        )
        return replace(self, path=path, data_dir=data_dir, data_files=data_files)


def each_pattern(data_files: Any, change: Callable[[str], str]) -> Any:
    """``data_files``, whether one pattern, a list, or a mapping from splits to either, with each pattern changed."""
    if isinstance(data_files, str):
        return change(data_files)
    if isinstance(data_files, dict):
        return {split: each_pattern(patterns, change) for split, patterns in data_files.items()}
    return data_files if data_files is None else [each_pattern(pattern, change) for pattern in data_files]


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
        shard_files: The file of each shard of a stream; empty where that is not known.
        remote: Whether a stream's files are elsewhere, or may be.
        row_ids: Computes the identities of the rows, (N,) uint64 (see ``hfcontrast.data.row_identities``); None where they are not known.
        not_used: How many files or images are no rows of any split, by cause.
        listed: Opens only the rows that metadata files have, where there are such files and other images may lack their columns.
    """

    dataset: Dataset | IterableDataset
    sizes: list[int] | None
    files: str | None
    shard_files: tuple[str, ...] = ()
    listed: "Callable[[], Opened] | None" = None
    remote: bool = False
    row_ids: Callable[[], np.ndarray | None] | None = None
    not_used: Mapping[str, int] = MappingProxyType({})


class Kind(Protocol):
    """What the module of a kind of source has."""

    def takes(self, source: Source) -> bool:
        """Whether a source is of this kind."""

    def splits(self, source: Source) -> list[str]:
        """The names of its splits. Raises DataError where it cannot be opened."""

    def open_split(self, source: Source, split: str, streaming: bool) -> Opened:
        """Opens one split. Raises DataError where it cannot be opened."""


def split_names(split: str) -> list[str]:
    """The splits that an expression such as ``train[:50%]+test`` is made of, each once."""
    return list(dict.fromkeys(part.split("[")[0].strip() for part in split.split("+")))


def require_one_split(split: str) -> None:
    """Refuses an expression of which there is no stream.

    Raises:
        DataError: It is a slice, or a sum of splits.
    """
    if "[" in split or "+" in split:
        raise DataError(f"a stream has no slices or sums of splits, but split is {split!r}: name one split")
