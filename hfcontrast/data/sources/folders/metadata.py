"""Metadata of images: tables ``metadata.csv``, ``.jsonl`` or ``.parquet`` beside them, whose ``file_name`` says which image a row is of.

As in ``datasets``' imagefolder: names are relative to the table and stay within its folder, and a column ``NAME_file_name`` becomes a
column ``NAME`` of images.
"""

import os
import posixpath
from collections.abc import Callable
from typing import NamedTuple

import pandas
import pyarrow
import pyarrow.json
import pyarrow.parquet
from datasets import Features, Image

from hfcontrast.data.stream_errors import error_text
from hfcontrast.errors import DataError

IMAGE = "image"
_FILE, _END = "file_name", "_file_name"
_BLOCK = 1 << 20  # bytes; an object of a JSON table must fit
_LARGEST_BLOCK = (1 << 31) - 1


class Metadata(NamedTuple):
    """A table of metadata.

    Attributes:
        table: Its rows; the columns of images are the paths that are opened.
        features: What its columns hold.
        key: The column of the images that the rows are of.
    """

    table: pyarrow.Table
    features: Features
    key: str


def read_metadata(path: str, folder: str, opened: Callable[[str], str]) -> Metadata:
    """Reads a table of metadata.

    Args:
        path: The file.
        folder: Its folder within the listing, with a slash.
        opened: Gives the path that is opened, of one within the listing.

    Raises:
        DataError: It cannot be read, does not say which image a row is of, or names a file outside its folder.
    """
    table = _read(path)
    features = Features.from_arrow_schema(table.schema)
    named = [name for name in table.column_names if name == _FILE or (name.endswith(_END) and _is_text(table, name))]
    if not named:
        raise DataError(
            f"{path} has no column {_FILE}, which says which image a row is of; its columns are {', '.join(table.column_names)}"
            f"{_separated(path, table.column_names)}"
        )
    if not _is_text(table, named[0]):
        raise DataError(f"column {_FILE} of {path} holds no names of files but {table.schema.field(_FILE).type}")
    new = {name: IMAGE if name == _FILE else name.removesuffix(_END) for name in named}
    columns: dict[str, pyarrow.Array | pyarrow.ChunkedArray] = {}
    for name in table.column_names:
        if name in new:
            names = table[name].to_pylist()
            found = [None if name is None else opened(folder + _inside(name, path)) for name in names]
            columns[new[name]] = pyarrow.array(found, type=pyarrow.string())
            features[new[name]] = Image()
        elif name not in new.values():
            columns[name] = table[name]
    kept = Features({name: features[name] for name in columns})
    return Metadata(pyarrow.table(columns), kept, IMAGE if IMAGE in columns else new[named[0]])


def _read(path: str) -> pyarrow.Table:
    try:
        if path.endswith(".csv"):
            return pyarrow.Table.from_pandas(pandas.read_csv(path, dtype={_FILE: str}), preserve_index=False)
        if path.endswith(".jsonl"):
            block = min(max(_BLOCK, os.path.getsize(path)), _LARGEST_BLOCK)
            return pyarrow.json.read_json(path, read_options=pyarrow.json.ReadOptions(block_size=block))
        return pyarrow.parquet.read_table(path)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read: {error_text(error)}") from error


def _separated(path: str, columns: list[str]) -> str:
    """What to do about a table whose one column seems to be several, as it is not separated by commas."""
    other = next((sign for sign in (";", "\t", "|") if sign in columns[0]), None) if len(columns) == 1 else None
    return f": separate them by commas, and not by {other!r}" if path.endswith(".csv") and other else ""


def _is_text(table: pyarrow.Table, column: str) -> bool:
    kind = table.schema.field(column).type
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def _inside(name: str, place: str) -> str:
    """A file's name, relative to the metadata file, made plain.

    Raises:
        DataError: It leads out of the folder: a data set from elsewhere could have any file of this machine opened.
    """
    plain = posixpath.normpath(name.replace("\\", "/"))
    if "://" in name or os.path.isabs(plain) or plain == ".." or plain.startswith("../"):
        raise DataError(f"{place} names the file {name!r}: names in metadata are relative to it, and within its folder")
    return plain
