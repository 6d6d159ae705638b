"""Data sets that ``save_to_disk`` wrote."""

import os

import datasets
from datasets import Dataset, DatasetDict

from hfcontrast.data.sources.slices import slice_splits
from hfcontrast.data.sources.source import Opened, Source
from hfcontrast.data.stream_errors import LOADING_ERRORS, error_text
from hfcontrast.errors import DataError


def takes(source: Source) -> bool:
    """Whether the path is a folder with the files that ``save_to_disk`` writes."""
    return (source.folder / "dataset_dict.json").is_file() or (source.folder / "state.json").is_file()


def splits(source: Source) -> list[str]:
    """The names of its splits."""
    return list(_load(source))


def open_split(source: Source, split: str, streaming: bool) -> Opened:
    """One split, a slice or a sum of some; as a stream where that is asked for."""
    saved = _load(source)
    sizes = {name: len(dataset) for name, dataset in saved.items()}
    folder = os.path.realpath(source.folder)
    several = os.path.isfile(os.path.join(folder, "dataset_dict.json"))

    def place(name: str) -> str:  # a split of several is a folder that can be opened by itself
        return os.path.join(folder, name) if several else folder

    return slice_splits(sizes, saved.__getitem__, split, streaming, source.path, place)


def _load(source: Source) -> dict[str, Dataset]:
    try:
        saved = datasets.load_from_disk(str(source.folder))
    except IndexError as error:  # datasets saves a set without rows, but cannot load it
        raise DataError(f"the data set saved in {source.path} is empty") from error
    except LOADING_ERRORS as error:
        raise DataError(f"the data set saved in {source.path} cannot be opened: {error_text(error)}") from error
    return dict(saved) if isinstance(saved, DatasetDict) else {str(saved.split or "train"): saved}
