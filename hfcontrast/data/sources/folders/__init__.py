"""Folders of images on this machine, each walked once.

``listing`` walks a folder and knows of each file no more than its path; ``layout`` says which splits and classes its folders stand for;
``table`` makes the rows of a split, with the columns of ``metadata`` files; ``patterns`` lists what ``data_files`` name. Whatever has class folders opens in the same way: its files
are given to a ``Collector`` in the order of their paths, as those of an archive:

    found = Collector(place="photos.zip", before="zip://", after="::/my/photos.zip")
    number = found.add_folder("")  # the place itself, first; then each folder by its path in it, with a slash
    number = found.add_folder("cat/")
    found.add_image(number, "zip://cat/1.jpg::/my/photos.zip")  # the path that is opened: before + "cat/1.jpg" + after
    found.add_other("cat/", "notes.txt")  # a metadata file, or counted as not used
    listing = found.finish()
    layout = layout_of(listing)
    opened = open_listing(listing, layout, split, streaming)

``is_hidden`` says what is left out without a word, ``begins_as_image`` and ``image_endings`` of ``hfcontrast.data.image_formats`` which
files are images.
"""

import functools
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset, IterableDataset
from datasets.iterable_dataset import ExamplesIterable

from hfcontrast.console import warn_once
from hfcontrast.data.fingerprint import fingerprint_of_paths
from hfcontrast.data.image_formats import PACKAGES
from hfcontrast.data.row_identities import of_files
from hfcontrast.data.sources.folders.layout import Layout, layout_of, layout_of_named
from hfcontrast.data.sources.folders.listing import Collector, Listing, is_hidden, list_folder
from hfcontrast.data.sources.folders.patterns import listing_of_files
from hfcontrast.data.sources.folders.remembered import listing_of
from hfcontrast.data.sources.folders.table import Rows, rows_of_split
from hfcontrast.data.sources.slices import slice_splits, unknown_split
from hfcontrast.data.sources.source import Opened, Source, require_one_split, split_names
from hfcontrast.errors import DataError
from hfcontrast.paths import is_address

__all__ = [
    "Collector",
    "Layout",
    "Listing",
    "is_described",
    "is_hidden",
    "layout_of",
    "list_folder",
    "open_listing",
    "open_split",
    "splits",
    "takes",
]

logger = logging.getLogger(__name__)

FORMAT = "imagefolder"
# Folders in which these are as many as the images are tables, which ``datasets`` reads.
_TABLES = (".parquet", ".geoparquet", ".gpq", ".arrow", ".lance", ".vortex", ".zip", ".tar", ".h5", ".hdf5")
_FEW_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")  # may also be annotations, one an image
_AT_ONCE = 1024  # rows of a stream read together


def takes(source: Source) -> bool:
    """Whether the source is a folder of images on this machine, or names such files, and does not consist of archives alone."""
    if source.path == FORMAT and source.data_files is not None:
        listed = (
            None if is_address(source.data_dir or "") else listing_of_files(source.data_files, source.data_dir or "")
        )
        _named[:] = [] if listed is None else [(source, listed)]
        return listed is not None
    folder = _folder(source)
    if folder is None:
        return False
    listing = listing_of(folder)
    return not _archives_alone(listing) and (source.path == FORMAT or _has_images(listing))


def splits(source: Source) -> list[str]:
    """The names of its splits."""
    listing, layout = _opened(source)
    _check_images(listing)
    return list(layout.splits)


def open_split(source: Source, split: str, streaming: bool) -> Opened:
    """One split, a slice or a sum of some; as a stream where that is asked for."""
    return open_listing(*_opened(source), split, streaming)


def open_listing(listing: Listing, layout: Layout, split: str, streaming: bool) -> Opened:
    """One split of a listing, a slice or a sum of some; as a stream where that is asked for.

    Raises:
        DataError: There are no images, no such split, or a metadata file cannot be read.
    """
    _check_images(listing)
    if streaming:
        require_one_split(split)
    named = split_names(split)
    for name in named:
        if name not in layout.splits:
            raise unknown_split(listing.place, name, list(layout.splits), layout.told)
    found = {name: rows_of_split(listing, layout, name) for name in named}
    sizes = {
        name: len(found[name].dataset) if name in found else len(part.rows) for name, part in layout.splits.items()
    }

    def opened(listed: bool) -> Opened:
        def load(name: str) -> Dataset:
            rows = found[name]
            return _listed(rows) if listed else rows.dataset

        if left := sum(rows.unlisted for rows in found.values()) if listed else 0:
            count = sum(len(rows.dataset) for rows in found.values())
            what = (
                "is not used: no metadata file has a row of it"
                if left == 1
                else "are not used: no metadata file has a row of them"
            )
            warn_once(logger, f"{left} of {count} images of {listing.place} (split {split}) {what}, and so no caption")
        counts = sizes | ({name: len(_listed(rows)) for name, rows in found.items()} if listed else {})
        if streaming and split in found:
            chosen = _as_stream(load(split), listing, split, layout)
        else:
            chosen = slice_splits(counts, load, split, streaming, listing.place)
        return chosen._replace(not_used=_not_used(listing, left))

    whole = opened(listed=False)
    of_rows = [sentence for rows in found.values() for sentence in rows.sentences]
    for sentence in filter(None, (*layout.sentences, *of_rows, _unused(listing), listing.closed_sentence())):
        warn_once(logger, sentence)
    some = any(rows.listed is not None for rows in found.values())
    return whole._replace(listed=functools.partial(opened, listed=True) if some else None)


def _not_used(listing: Listing, unlisted: int) -> dict[str, int]:
    """How many files and folders of a listing are no rows, by cause."""
    found = {
        "files that are no images": sum(number + listing.litter[ending] for ending, number in listing.unused.items()),
        "images without a row in the metadata": unlisted,
        "folders that may not be read": len(listing.closed),
    }
    return {cause: count for cause, count in found.items() if count}


def _listed(rows: Rows) -> Dataset:
    return rows.dataset.select(range(0)) if rows.listed is None else rows.listed


def _as_stream(dataset: Dataset, listing: Listing, split: str, layout: Layout) -> Opened:
    """Rows as a stream of one shard, which resumes where one of ``datasets``' imagefolder was left."""
    rows = ExamplesIterable(_rows_in_order, {"dataset": dataset})
    stream = IterableDataset(rows, info=datasets.DatasetInfo(features=dataset.features), split=datasets.Split(split))
    folders = layout.splits[split].folders
    paths = listing.files.take(layout.splits[split].rows).to_pylist()
    if metadata := [listing.path(within) for within in listing.metadata if within.startswith(folders)]:
        places = [listing.path(folder) for folder in folders]
        paths = sorted(
            paths + metadata,
            key=lambda path: (next(n for n, place in enumerate(places) if path.startswith(place)), path),
        )
    return Opened(stream, [len(dataset)], fingerprint_of_paths(paths), row_ids=functools.partial(of_files, dataset))


def _rows_in_order(dataset: Dataset) -> Iterator[tuple[int, dict[str, Any]]]:
    for first in range(0, len(dataset), _AT_ONCE):
        table = dataset.with_format("arrow")[first : first + _AT_ONCE]
        for number, row in enumerate(table.to_pylist()):
            yield first + number, row


def _folder(source: Source) -> str | None:
    """The folder on this machine that a source is, where it is one."""
    if source.data_files is not None:
        return None
    if source.path == FORMAT:
        folder = source.data_dir if source.data_dir is not None and not is_address(source.data_dir) else None
    elif source.name is None and not is_described(source.folder):
        folder = os.path.join(source.folder, source.data_dir or "")
    else:
        folder = None
    return folder if folder is not None and os.path.isdir(folder) else None


def is_described(folder: Path) -> bool:
    """Whether a data set of the Hub says itself which files it has."""
    if (folder / datasets.config.REPOYAML_FILENAME).exists():
        return True
    card = folder / datasets.config.REPOCARD_FILENAME
    if not card.is_file():
        return False
    text = card.read_text(encoding="utf-8", errors="replace")
    return text.startswith("---") and "\nconfigs:" in text.partition("\n---")[0]


def _archives_alone(listing: Listing) -> bool:
    return bool(listing.archives) and not len(listing)


def _has_images(listing: Listing) -> bool:
    """Whether there are more images than tables, as far as ``datasets`` would read these."""
    count, unused = len(listing), listing.unused
    return (
        all(unused[end] < count for end in _TABLES) and all(unused[end] <= count for end in _FEW_TABLES) and count > 0
    )


# The source of which ``takes`` has listed data_files, and what it found, until it is opened.
_named: list[tuple[Source, tuple[Listing, dict[str, np.ndarray]]]] = []


def _opened(source: Source) -> tuple[Listing, Layout]:
    if source.data_files is not None:
        known = _named.pop() if _named else None
        if known is not None and known[0] == source:
            listed: tuple[Listing, dict[str, np.ndarray]] | None = known[1]
        else:
            listed = listing_of_files(source.data_files, source.data_dir or "")
        assert listed is not None  # ``takes`` was asked
        return listed[0], layout_of_named(*listed)
    listing = listing_of(str(_folder(source)))
    return listing, _layout(listing)


@functools.lru_cache(maxsize=4)
def _layout(listing: Listing) -> Layout:
    return layout_of(listing)


def _check_images(listing: Listing) -> None:
    """Refuses a listing without any image."""
    if not len(listing):
        raise DataError(no_images(listing))


def no_images(listing: Listing) -> str:
    """That a folder holds no images, what it holds instead, and what to do with it."""
    hint = " (unpack archives, or pack them as zip or tar)" if {".7z", ".rar"} & listing.unused.keys() else ""
    why = ("no file there ends or begins as one that Pillow opens", _unused(listing) + hint, listing.closed_sentence())
    return f"{listing.place} holds no images: {'; '.join(filter(None, why))}"


def _unused(listing: Listing) -> str:
    """What is not used, and what to install for images that Pillow alone does not open."""
    packages = {PACKAGES[ending] for ending in listing.unused if ending in PACKAGES}
    hint = f" (pip install {' '.join(sorted(packages))} opens some of them)" if packages else ""
    return listing.unused_sentence() + hint
