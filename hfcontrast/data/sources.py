"""Sources: rows from a Hub data set, local files, a folder saved to disk or a built-in set, map-style or streaming."""

import importlib
import itertools
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

import datasets
from datasets import Dataset, DatasetDict, IterableDataset, ReadInstruction
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from hfcontrast.data.decode import MAX_PIXELS
from hfcontrast.data.fingerprint import fingerprint_of_files, fingerprint_of_rows
from hfcontrast.data.reading import ImageReader, places_of
from hfcontrast.data.reading_on import told
from hfcontrast.data.row_counts import count_rows
from hfcontrast.data.rows import Rows, rows_of
from hfcontrast.errors import DataError
from hfcontrast.hub import reaching_hub

BUILTIN = {"builtin/shapes": "hfcontrast.data.shapes", "builtin/digits": "hfcontrast.data.digits"}
_STREAM_SHARDS = 16  # of a map-style set that is asked for as a stream
_NOTHING = "corresponds to no data"  # what datasets says of a split that it has found no file for
_LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, datasets.exceptions.DatasetsError)
_FORMATS = ("imagefolder", "parquet", "webdataset", "arrow", "json", "csv")  # of whatever lies in the working directory


Opened = tuple[Dataset | IterableDataset, list[int] | None, str | None]


def load_rows(
    path: str,
    *,
    name: str | None = None,
    data_dir: str | None = None,
    data_files: str | list | dict | None = None,
    split: str = "train",
    revision: str | None = None,
    streaming: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    caption_column: str | None = None,
    captioned: bool | Literal["auto"] = False,
    columns: Sequence[str] = (),
    tensors: Sequence[str] = (),
    open_addresses: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Rows:
    """Opens one split of a data set.

    Args:
        path: Anything that ``datasets.load_dataset`` takes (the name of a Hub data set, ``imagefolder``, ``parquet``,
            ``webdataset``, a folder), a folder that ``save_to_disk`` wrote, ``builtin/shapes`` or ``builtin/digits``.
        name: The configuration, where the data set has several.
        data_dir: As in ``load_dataset``.
        data_files: As in ``load_dataset``.
        split: The split; of map-style sets also slices and sums, as ``train[:50%]`` or ``train+test``.
        revision: The version of a Hub data set.
        streaming: Whether to read the rows in order as they come, instead of by number.
        image_column: The column with the images; None takes ``image``, or else the first column of images.
        label_column: The column with the labels, whole numbers or class labels (of map-style sets also texts); None
            takes ``label``, or else the first column of class labels, or none.
        caption_column: The column with the captions (texts or lists of texts), or a field of one, ``COLUMN.FIELD``; None
            takes ``caption``, ``captions``, ``text``, ``texts`` or ``txt``.
        captioned: Whether captions are wanted at all; ``auto``: where there are some, or their column is named.
        columns: Further columns to keep.
        tensors: Columns that are batched as tensors, for a method that takes them as arguments.
        open_addresses: Whether addresses that rows hold instead of images are opened, and of a data set from elsewhere files of
            this machine; files and addresses of the data set itself always are.
        max_pixels: Pixels of an image at most; a larger one cannot be read.

    Raises:
        DataError: The path, split or a column does not exist, or the split is empty.
    """
    source = _Source(path, name, data_dir, data_files, revision)
    dataset, sizes, files = source.open(split, streaming)
    num_rows = None if sizes is None else sum(sizes)
    description = f"{path} (split {split})"
    if num_rows == 0:
        where = f": {data_dir or data_files} holds no images" if path == "imagefolder" else ""
        raise DataError(f"{description} is empty{where}")
    rows = rows_of(
        dataset,
        num_rows,
        description,
        image_column=image_column,
        label_column=label_column,
        caption_column=caption_column,
        captioned=captioned,
        columns=columns,
        tensors=tensors,
    )
    starts = tuple(itertools.accumulate(sizes[:-1], initial=0)) if rows.streaming and sizes else None
    reader = ImageReader(max_pixels, open_addresses, *places_of(path, data_dir, data_files))
    return replace(rows, starts=starts, reader=reader, files=files)


def available_splits(
    path: str,
    *,
    name: str | None = None,
    data_dir: str | None = None,
    data_files: str | list | dict | None = None,
    revision: str | None = None,
) -> list[str]:
    """The names of the splits of a data set; arguments as in ``load_rows``.

    Raises:
        DataError: There is no such data set.
    """
    return _Source(path, name, data_dir, data_files, revision).splits()


@dataclass(frozen=True)
class _Source:
    """Where rows come from, before a split is chosen."""

    path: str
    name: str | None
    data_dir: str | None
    data_files: str | list | dict | None
    revision: str | None

    @property
    def folder(self) -> Path:
        return Path(os.path.expanduser(self.path))  # a ~NAME that is nobody's stays what it is

    def open(self, split: str, streaming: bool) -> Opened:
        """The rows, how many each shard has, and the fingerprint of a stream's files; None where that is not known."""
        if (held := self._held()) is not None:
            if split in held and isinstance(held[split], IterableDataset):
                return held[split], None, None
            sizes = {name: len(rows) for name, rows in held.items() if isinstance(rows, Dataset)}
            return _slice(sizes, held.__getitem__, split, streaming, self.path)
        if self.path.startswith("builtin/"):
            module, sizes = self._builtin()
            return _slice(sizes, partial(module.load, configuration=self.name), split, streaming, self.path)
        if (self.folder / "dataset_dict.json").is_file() or (self.folder / "state.json").is_file():
            saved = self._saved()
            sizes = {key: len(dataset) for key, dataset in saved.items()}
            return _slice(sizes, saved.__getitem__, split, streaming, self.path)
        return self._load(split, streaming)

    def splits(self) -> list[str]:
        if (held := self._held()) is not None:
            return list(held)
        if self.path.startswith("builtin/"):
            return list(self._builtin()[1])
        if (self.folder / "dataset_dict.json").is_file() or (self.folder / "state.json").is_file():
            return list(self._saved())
        self._check_local()
        with self._reaching_hub() as unreachable:
            try:
                return self._split_names()
            except _LOADING_ERRORS as error:
                raise DataError(f"{self.path} cannot be opened as a data set: {error}{unreachable}") from error

    def _reaching_hub(self) -> AbstractContextManager[str]:
        is_format = self.path in _PACKAGED_DATASETS_MODULES
        return nullcontext("") if is_format else reaching_hub(self.path)

    def _held(self) -> dict[str, Dataset | IterableDataset] | None:
        """The splits of a data set that was open already: such a path has it as ``dataset``."""
        dataset = getattr(self.path, "dataset", None)
        if dataset is None and self.path.startswith("memory/"):
            raise DataError(
                f"data.path was a data set that was open in Python, {self.path}: hand it over again, as in load_recipe(RECIPE, dataset=...)"
            )
        return dict(dataset) if isinstance(dataset, dict) else None if dataset is None else {"train": dataset}

    def _builtin(self) -> tuple[ModuleType, dict[str, int]]:
        if self.path not in BUILTIN:
            raise DataError(f"there is no {self.path}; built in are {', '.join(BUILTIN)}")
        module = importlib.import_module(BUILTIN[self.path])
        if self.name not in module.CONFIGURATIONS:
            names = ", ".join(name for name in module.CONFIGURATIONS if name) or "none but the default (null)"
            raise DataError(f"{self.path} has no configuration {self.name!r}; there is {names}")
        return module, module.CONFIGURATIONS[self.name]

    def _saved(self) -> dict[str, Dataset]:
        try:
            saved = datasets.load_from_disk(str(self.folder))
        except IndexError as error:  # datasets saves a set without rows, but cannot load it
            raise DataError(f"the data set saved in {self.path} is empty") from error
        except _LOADING_ERRORS as error:
            raise DataError(f"the data set saved in {self.path} cannot be opened: {error}") from error
        return dict(saved) if isinstance(saved, DatasetDict) else {str(saved.split or "train"): saved}

    def _arguments(self) -> dict:
        # Only what was given: some builders do not take what they have no use for.
        arguments = {"data_dir": self.data_dir, "data_files": self.data_files, "revision": self.revision}
        arguments = {key: value for key, value in arguments.items() if value is not None}
        return {"path": str(self.folder) if self.folder.exists() else self.path, "name": self.name} | arguments

    def _split_names(self) -> list[str]:
        arguments = self._arguments()
        return datasets.get_dataset_split_names(arguments.pop("path"), arguments.pop("name"), **arguments)

    def _check_local(self) -> None:
        if self.path.startswith((".", "/", "~")) and not self.folder.exists():
            raise DataError(f"data.path {self.path} does not exist")
        folder = self.data_dir if self.path in _FORMATS else None
        if folder is not None and "://" not in folder and not Path(folder).expanduser().exists():
            raise DataError(f"data.data_dir {folder} does not exist")
        if self.path in _FORMATS and self.data_dir is None and self.data_files is None:
            raise DataError(f"{self.path} is a format, not a data set: say where the files are, data_dir or data_files")

    def _load(self, split: str, streaming: bool) -> Opened:
        self._check_local()
        if streaming and ("[" in split or "+" in split):
            raise DataError(f"a stream has no slices or sums of splits, but split is {split!r}: name one split")
        with self._reaching_hub() as unreachable:
            try:
                return self._load_streaming(split) if streaming else self._load_prepared(split)
            except _LOADING_ERRORS as error:
                raise DataError(self._explain(error, split) + unreachable) from error

    def _load_prepared(self, split: str) -> Opened:
        dataset = datasets.load_dataset(split=split, **self._arguments())
        return dataset, [len(dataset)], None

    def _load_streaming(self, split: str) -> Opened:
        builder = datasets.load_dataset_builder(**self._arguments())
        dataset = builder.as_streaming_dataset(split=split)
        known = (dataset.info.splits or {}).get(split)
        sizes = count_rows(builder, split)
        if sizes is None and known and known.num_examples:
            sizes = [known.num_examples]
        return dataset, sizes, fingerprint_of_files(builder, split)

    def _explain(self, error: Exception, split: str) -> str:
        if _NOTHING in str(error):
            where = self.data_dir or self.data_files or self.path
            return f"{where} holds no images: no file there (split {split}) ends as one does, in .jpg, .png or the like"
        if isinstance(error, datasets.exceptions.DatasetGenerationError) and error.__cause__:
            error = DataError(told(error.__cause__))  # which says what was wrong
        try:
            names = self._split_names()
        except _LOADING_ERRORS:
            hint = "" if self.folder.exists() or self.path in _FORMATS else " (there is no such folder here either)"
            return f"{self.path} cannot be opened as a data set{hint}: {error}"
        wanted = {part.split("[")[0].strip() for part in split.split("+")}
        if unknown := sorted(wanted - set(names)):
            return f"{self.path} has no split {unknown[0]!r}; there are {', '.join(names)}"
        return f"{self.path}, split {split}, cannot be opened: {error}"


def _slice(sizes: dict[str, int], load, split: str, streaming: bool, path: str) -> Opened:
    """Splits, slices and sums of what is there as map-style sets, as ``load_dataset`` understands them."""
    names = [part.split("[")[0].strip() for part in split.split("+")]
    if unknown := [name for name in names if name not in sizes]:
        raise DataError(f"{path} has no split {unknown[0]!r}; there are {', '.join(sizes)}")
    try:
        parts = ReadInstruction.from_spec(split).to_absolute(sizes)
    except (ValueError, AssertionError) as error:  # the latter from datasets' own checks of the bounds
        raise DataError(f"split {split!r} cannot be understood: {error}; an example is train[:50%]") from error
    chosen = []
    for part in parts:
        dataset = load(part.splitname)
        first, last = part.from_ or 0, len(dataset) if part.to is None else part.to
        chosen.append(dataset if (first, last) == (0, len(dataset)) else dataset.select(range(first, last)))
    dataset = chosen[0] if len(chosen) == 1 else datasets.concatenate_datasets(chosen)
    rows = len(dataset)
    if not streaming or not rows:
        return dataset, [rows], None
    shards = min(_STREAM_SHARDS, rows)
    sizes = [rows // shards + (number < rows % shards) for number in range(shards)]  # as datasets cuts them
    return dataset.to_iterable_dataset(num_shards=shards), sizes, fingerprint_of_rows(dataset)
