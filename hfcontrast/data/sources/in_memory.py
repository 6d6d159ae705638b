"""Data sets of ``datasets`` that are open already: such a path has its rows as ``dataset``."""

from typing import Any

from datasets import Dataset, IterableDataset

from hfcontrast.data.sources.slices import slice_splits
from hfcontrast.data.sources.source import Opened, Source
from hfcontrast.errors import DataError


def takes(source: Source) -> bool:
    """Whether the path is one of an open data set, or has been one."""
    return _held(source) is not None or source.path.startswith("memory/")


def splits(source: Source) -> list[str]:
    """The names of its splits; ``train`` where it has none."""
    return list(_splits(source))


def open_split(source: Source, split: str, streaming: bool) -> Opened:
    """One split; streams as they are, map-style rows also as slices, sums and streams."""
    held = _splits(source)
    if split in held and isinstance(held[split], IterableDataset):
        return Opened(held[split], None, None)
    sizes = {name: len(rows) for name, rows in held.items() if isinstance(rows, Dataset)}
    return slice_splits(sizes, held.__getitem__, split, streaming, source.path)


def _held(source: Source) -> Any:
    return getattr(source.path, "dataset", None)


def _splits(source: Source) -> dict[str, Dataset | IterableDataset]:
    dataset = _held(source)
    if dataset is None:
        raise DataError(
            f"data.path was a data set that was open in Python, {source.path}: hand it over again, as in load_recipe(RECIPE, dataset=...)"
        )
    return dict(dataset) if isinstance(dataset, dict) else {"train": dataset}
