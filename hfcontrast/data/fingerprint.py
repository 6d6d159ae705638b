"""Fingerprints of data sets, by which a resumed run or command notices that its data have changed.

A fingerprint depends on the rows in their order, and not on where they are stored: a folder may be moved, a cache removed.
"""

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
    sampled = set(np.unique(np.linspace(0, len(dataset) - 1, _FILES).astype(int)).tolist())
    files: list[tuple[int, str]] = []
    for first in range(0, len(dataset), _CHUNK):
        table = rows[first : first + _CHUNK]
        for name in sorted(table.column_names):
            column = table[name].combine_chunks()
            if pyarrow.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
                lengths = pyarrow.compute.binary_length(pyarrow.compute.struct_field(column, "bytes"))
                paths = pyarrow.compute.struct_field(column, "path").to_pylist() if lengths.null_count else []
                files += [(first + i, path) for i, path in enumerate(paths) if path and not lengths[i].is_valid]
                column = lengths
            elif pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type):
                column = pyarrow.compute.binary_length(column)
            if pyarrow.types.is_primitive(column.type):
                found.update(
                    name.encode() + np.asarray(column.fill_null(-1) if column.null_count else column).tobytes()
                )
    for part in _of_files([path for _, path in files], [number in sampled for number, _ in files]):
        found.update(part)
    for row in np.unique(np.linspace(0, len(dataset) - 1, _CONTENTS).astype(int)).tolist():
        image = rows[row : row + 1]["image"].to_pylist()[0] or {}
        found.update(image.get("bytes") or b"")
    return finished(found)


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
    sampled = set(np.unique(np.linspace(0, len(files) - 1, _FILES).astype(int)).tolist())
    for part in _of_files(files, [number in sampled for number in range(len(files))]):
        found.update(part)
    found.update(origin.encode())
    return finished(found)


def _of_files(paths: Sequence[str], sized: Sequence[bool]) -> Iterator[bytes]:
    """Names behind what all have in common, and the sizes of some."""
    common = len(os.path.commonprefix([min(paths), max(paths)])) if len(paths) > 1 else 0
    if len(paths) == 1:
        common = len(os.path.dirname(paths[0]))
    for path, wanted in zip(paths, sized, strict=True):
        yield path[common:].encode() + b"\n"
        if wanted and "://" not in path:
            try:
                yield b"%d\n" % os.stat(path).st_size
            except OSError:  # a row that cannot be read
                yield b"-\n"
