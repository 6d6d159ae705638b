"""Identities of rows: equal for a row of two splits, slices or streams of the same data, whatever the expression that it was reached by.

Images that are files have those of their resolved paths; all other rows those of the file, or the split, that they are in, and of
their number there.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Dataset

from hfcontrast.data.keyed_random import hash_numbers

_CHUNK = 16384  # paths that are Python objects at once


def numbered(place: str, first: int, last: int) -> np.ndarray:
    """Of the rows ``first`` to ``last - 1`` of a place, such as a file or a split: (last - first,) uint64."""
    key = int.from_bytes(hashlib.blake2b(place.encode(), digest_size=8).digest())
    return hash_numbers(key, np.arange(first, last, dtype=np.int64))


def numbered_in_ranges(ranges: Sequence[tuple[str, int, int]]) -> np.ndarray:
    """Of rows of several places: (N,) uint64.

    Args:
        ranges: Place, first row and row after the last, as :func:`numbered` takes them.
    """
    return np.concatenate([numbered(*part) for part in ranges])


def of_files(dataset: Dataset) -> np.ndarray | None:
    """Of rows whose images are files that are opened when they are read: (N,) uint64; None where some are not, or are not whole paths.

    Args:
        dataset: Its column ``image`` holds them.
    """
    folders: dict[str, tuple[str, dict[str, str]]] = {}
    parts = [np.zeros(0, dtype=np.uint64)]
    rows = dataset.select_columns(["image"]).with_format("arrow")
    starts = [
        0,
        *range(1, len(dataset), _CHUNK),
    ]  # the first row alone: bytes of images are not copied to see that they are there
    for first, last in zip(starts, [*starts[1:], len(dataset)], strict=True):
        images = rows[first:last]["image"].combine_chunks()
        paths = _paths(images)
        if paths is None:
            return None
        found = (_resolved(path, folders).encode("utf-8", "surrogateescape") for path in paths)
        digests = b"".join(hashlib.blake2b(path, digest_size=8).digest() for path in found)
        parts.append(np.frombuffer(digests, dtype=np.uint64))
    return np.concatenate(parts)


def _paths(images: pyarrow.Array) -> list[str] | None:
    """The whole paths of images without bytes; None where some have bytes, or no whole path."""
    if not pyarrow.types.is_struct(images.type) or images.type.get_field_index("bytes") < 0:
        return None
    held, paths = (pyarrow.compute.struct_field(images, name) for name in ("bytes", "path"))
    if held.null_count < len(images) or paths.null_count:
        return None
    whole = pyarrow.compute.all(pyarrow.compute.starts_with(paths, "/")).as_py()
    return paths.to_pylist() if whole or not len(paths) else None


def of_split(place: str, files: Sequence[str], sizes: Sequence[int] | None, rows: int) -> np.ndarray:
    """Of a whole split: by the numbers in its files where it is known how many rows these have, else in the split. (N,) uint64.

    Args:
        place: The split, for data of which no files are known.
        files: Paths or addresses of its files, in the order of its rows.
        sizes: Rows of each; None where that is not known.
        rows: Rows of the split.
    """
    resolved = [file if "://" in file else os.path.realpath(file) for file in files]
    if sizes is not None and len(sizes) == len(files) and sum(sizes) == rows:
        return np.concatenate([numbered(file, 0, size) for file, size in zip(resolved, sizes, strict=True)])
    return numbered("\n".join(resolved) or place, 0, rows)


def _resolved(path: str, folders: dict[str, tuple[str, dict[str, str]]]) -> str:
    """A path without links, where each folder is looked at once."""
    folder, _, name = path.rpartition("/")
    if folder not in folders:
        folders[folder] = os.path.realpath(folder or "/"), dict(_links(folder or "/"))
    real, links = folders[folder]
    return links.get(name) or f"{real}/{name}"


def _links(folder: str) -> Iterable[tuple[str, str]]:
    """The links in a folder, by their names, with what they lead to."""
    try:
        with os.scandir(folder) as entries:
            yield from [(entry.name, os.path.realpath(entry.path)) for entry in entries if entry.is_symlink()]
    except OSError:  # no folder, or none that can be read: its images cannot be, either
        return
