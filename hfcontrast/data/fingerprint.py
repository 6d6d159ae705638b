"""Fingerprints of data sets, by which a resumed run or command notices that its data have changed.

A fingerprint depends on the rows in their order, and not on where they are stored: a folder may be moved, a cache removed.
"""

import json
import os
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import Dataset, DatasetBuilder

from hfcontrast.checksums import finished, new_fingerprint

_CHUNK = 16384  # rows looked at at once
_FILES = 20_000  # whose size is asked for, spread evenly over the rows
_CONTENTS = 64  # rows whose image is read, spread evenly


def fingerprint_of_rows(dataset: Dataset) -> str:
    """Of map-style rows: lengths of the images, or names and sizes of their files; labels; lengths of texts; some images.

    Args:
        dataset: Rows with columns ``image`` (undecoded) and perhaps ``label`` and others.
    """
    found = new_fingerprint()
    found.update(str(len(dataset)).encode())
    rows = dataset.with_format("arrow")
    files: list[tuple[int, pyarrow.Array]] = []  # without copies of the paths, which may be a million
    for first in range(0, len(dataset), _CHUNK):
        table = rows[first : first + _CHUNK]
        for name in sorted(table.column_names):
            column = table[name].combine_chunks()
            if pyarrow.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
                lengths = pyarrow.compute.binary_length(pyarrow.compute.struct_field(column, "bytes"))
                if lengths.null_count:
                    files.append((first, _opened(pyarrow.compute.struct_field(column, "path"), lengths)))
                column = lengths
            elif pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
                column = pyarrow.compute.binary_length(column)
            if pyarrow.types.is_primitive(column.type):
                found.update(name.encode() + _bytes_of(column))
    for part in _of_files(files, len(dataset)):
        found.update(part)
    for row in np.unique(np.linspace(0, len(dataset) - 1, _CONTENTS).astype(int)).tolist():
        image = rows[row : row + 1]["image"].to_pylist()[0] or {}
        found.update(image.get("bytes") or b"")
    return finished(found)


def fingerprint_of_some(whole: str, chosen: np.ndarray | None, num_rows: int | None) -> str:
    """Of some rows of a data set.

    Args:
        whole: The fingerprint of all its rows.
        chosen: (N,) their places; None where only their number is known, of a stream.
        num_rows: How many they are; None where that is not known.
    """
    found = new_fingerprint()
    found.update(f"{whole} {num_rows}".encode())
    if chosen is not None:
        found.update(np.ascontiguousarray(chosen, dtype=np.int64).tobytes())
    return finished(found)


def _bytes_of(column: pyarrow.Array) -> bytes:
    """The values of a column of numbers, truth values or times."""
    if not column.null_count:
        return np.asarray(column).tobytes()
    if pyarrow.types.is_signed_integer(column.type) or pyarrow.types.is_floating(column.type):
        return np.asarray(column.fill_null(-1)).tobytes()
    return json.dumps(column.to_pylist(), default=str).encode()  # of types that have no -1


def fingerprints_of_earlier_labels(dataset: Dataset) -> Iterator[str]:
    """Of the same rows, as earlier versions labeled images of folders: not at all, or by the last folder of each path.

    Args:
        dataset: As for ``fingerprint_of_rows``.
    """
    if "label" not in dataset.column_names:
        return
    without = dataset.remove_columns("label")
    yield fingerprint_of_rows(without)
    images = without.with_format("arrow")[:]["image"].combine_chunks()
    paths = pyarrow.compute.struct_field(images, "path")
    if not paths.null_count:
        last = pyarrow.compute.struct_field(pyarrow.compute.extract_regex(paths, r"(?s)(?P<name>[^/]*)/[^/]*$"), "name")
        names = sorted(last.unique().to_pylist())
        numbers = pyarrow.compute.index_in(last, value_set=pyarrow.array(names)).cast(pyarrow.int64())
        yield fingerprint_of_rows(without.add_column("label", numbers))


def fingerprint_of_files(builder: DatasetBuilder, split: str) -> str | None:
    """Of a stream: the names and sizes of its files here, and what their host says of those elsewhere.

    Args:
        builder: What the stream is made by.
        split: Its split.

    Returns:
        None where the files are not known.
    """
    listed = (builder.config.data_files or {}).get(split)
    if not listed:
        return None
    files = [str(file) for file in listed]
    origin = repr(getattr(listed, "origin_metadata", None)) if any("://" in file for file in files) else ""
    return fingerprint_of_paths(files, origin)


def fingerprint_of_paths(files: Sequence[str], origin: str = "") -> str:
    """Of files: their names, and the sizes of some.

    Args:
        files: Their paths and addresses.
        origin: What the host of addresses says of them.
    """
    found = new_fingerprint()
    found.update(str(len(files)).encode())
    parts = (files[first : first + _CHUNK] for first in range(0, len(files), _CHUNK))
    arrays = [pyarrow.array(part, type=pyarrow.string()) for part in parts]
    for part in _of_files([(_CHUNK * number, array) for number, array in enumerate(arrays)], len(files)):
        found.update(part)
    found.update(origin.encode())
    return finished(found)


def _of_files(files: Sequence[tuple[int, pyarrow.Array]], rows: int) -> Iterator[bytes]:
    """Names behind what all have in common, and the sizes of some.

    Args:
        files: Paths, null where a row has none, each with the number of the first row of its part.
        rows: How many rows there are.
    """
    sampled = set(np.unique(np.linspace(0, rows - 1, _FILES).astype(int)).tolist())
    ends = [name for _, paths in files for name in _ends(paths)]
    if not ends:
        return
    first, last = min(ends), max(ends)
    several = sum(len(paths) - paths.null_count for _, paths in files) > 1
    common = len(os.path.commonprefix([first, last]) if several else os.path.dirname(first))
    for start, paths in files:
        for number, path in enumerate(paths.to_pylist(), start):
            if path is not None:
                yield path[common:].encode() + b"\n"
                if number in sampled and "://" not in path:
                    try:
                        yield b"%d\n" % os.stat(path).st_size
                    except OSError:  # a row that cannot be read
                        yield b"-\n"


def _opened(paths: pyarrow.Array, lengths: pyarrow.Array) -> pyarrow.Array:
    """The paths of rows that have no bytes, null for all others."""
    named = pyarrow.compute.greater(pyarrow.compute.binary_length(paths), 0)
    wanted = pyarrow.compute.and_(lengths.is_null(), named.fill_null(False))
    return paths if pyarrow.compute.all(wanted).as_py() else pyarrow.compute.if_else(wanted, paths, None)


def _ends(paths: pyarrow.Array) -> list[str]:
    """The first and the last of some paths in their order."""
    return [name for name in pyarrow.compute.min_max(paths).as_py().values() if name is not None]
