"""Held-out rows for evaluation where none are named: a split of the data set, a folder beside the training folder, or a fifth of the rows."""

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from hfcontrast.data.sources import available_splits
from hfcontrast.data.sources.unpacking import is_archive, stem_of
from hfcontrast.errors import DataError
from hfcontrast.paths import local_path

TRAIN = ("train", "training")
# Of several the first: what is for the final figures before what is for choosing settings.
HELD_OUT = ("test", "testing", "eval", "evaluation", "validation", "val", "valid", "validate", "dev")
_OF_SPLITS = ("path", "name", "data_dir", "data_files", "revision")


def held_out_split(splits: Collection[str]) -> str | None:
    """The split that models are evaluated on where none is named: ``test``, else ``validation``; None without either."""
    known = {split.lower(): split for split in splits}
    return next((known[name] for name in HELD_OUT if name in known), None)


def held_out_sources(source: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str, Path | None]]:
    """Where rows for an evaluation may be, the best first: held-out splits, then folders beside one called ``train``.

    Args:
        source: Of the training rows, as arguments of ``load_rows``.

    Yields:
        The source, the split, and the folder that was found beside the trained one (None for a split of the same data set).

    Raises:
        DataError: The data set cannot be opened.
    """
    splits = _splits_of(source)
    while (split := held_out_split(splits)) is not None:
        yield dict(source), split, None
        splits = [name for name in splits if name != split]
    for folder, changes in _beside(source):
        other = {**source, **changes}
        try:
            splits = _splits_of(other)
        except DataError:  # holds no images
            continue
        if splits:
            split = held_out_split(splits) or next((name for name in TRAIN if name in splits), splits[0])
            yield other, split, folder


def _splits_of(source: Mapping[str, Any]) -> list[str]:
    return available_splits(**{name: source[name] for name in _OF_SPLITS if name in source})


def _beside(source: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, str | None]]]:
    """Folders beside the one that is trained on, of the usual names, and the settings that open them."""
    path, data_dir = source.get("path"), source.get("data_dir")
    if source.get("data_files") is not None or not isinstance(path, str):
        return
    root = Path(local_path(path))
    of_format = data_dir is not None and not root.is_dir()
    folder = (Path(local_path(data_dir)) if of_format else root / (data_dir or "")).resolve()
    kind = is_archive if is_archive(str(folder)) else os.path.isdir
    if not kind(str(folder)) or _called(folder) not in TRAIN:
        return
    found = {_called(other): other for other in sorted(folder.parent.iterdir()) if kind(str(other))}
    for name in HELD_OUT:
        if name in found:
            yield (
                found[name],
                {"data_dir": str(found[name])} if of_format else {"path": str(found[name]), "data_dir": None},
            )


def _called(place: Path) -> str:
    """The name of a folder, or of an archive without its ending."""
    return (stem_of(str(place)) if is_archive(str(place)) else place.name).lower()


def in_fifth(position: int) -> bool:
    """Whether a row belongs to the fifth that is held out where there is nothing better, and labels are not known beforehand.

    One of five consecutive rows, drawn by their place: rows whose classes follow a cycle would otherwise lose whole classes.

    Args:
        position: From 0.
    """
    block, place = divmod(position, 5)
    mixed = (block + 1) * 0x9E3779B97F4A7C15 % 2**64
    mixed = (mixed ^ mixed >> 31) * 0xBF58476D1CE4E5B9 % 2**64
    return (mixed >> 32) % 5 == place
