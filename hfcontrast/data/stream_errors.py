"""Errors while data is read: one sentence each, with the name of the damaged file where it is known."""

import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import datasets
import pyarrow
from datasets import Dataset, IterableDataset

from hfcontrast.data.causes import cause_text
from hfcontrast.errors import DataError

READING_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, RuntimeError, AttributeError, EOFError, StopIteration, struct.error),
    *(zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile),
    *(pyarrow.ArrowException, datasets.exceptions.DatasetsError),
)
LOADING_ERRORS = READING_ERRORS
error_text = cause_text

T = TypeVar("T")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Says what cannot be read, and why, of errors of libraries inside.

    Args:
        what: The beginning of the sentence, such as ``the data set``.

    Raises:
        DataError: With the innermost cause and its file.
    """
    try:
        yield
    except READING_ERRORS as error:
        raise DataError(f"{what} cannot be read: {cause_text(error)}") from error


def read_batches(
    stream: Dataset | IterableDataset, batch_size: int, description: str, files: Sequence[str] = ()
) -> Iterator[dict[str, list[Any]]]:
    """The batches of a stream, up to its end.

    Args:
        stream: The rows.
        batch_size: Rows of a batch.
        description: A description of what is read, for messages.
        files: The file of each of its shards, where that is known.

    Raises:
        DataError: It cannot be read further.
    """
    batches = iter(stream.iter(batch_size))
    return _up_to_error(batches, stream, description, files, lambda batch: len(next(iter(batch.values()), [])))


def read_rows(rows: Dataset | IterableDataset, description: str, files: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The rows of a data set, one by one, up to its end.

    Args:
        rows: The rows.
        description: A description of what is read, for messages.
        files: The file of each shard of a stream, where that is known.

    Raises:
        DataError: They cannot be read further.
    """
    return _up_to_error(iter(rows), rows, description, files, lambda row: 1)


def _up_to_error(
    items: Iterator[T],
    dataset: Dataset | IterableDataset,
    description: str,
    files: Sequence[str],
    size: Callable[[T], int],
) -> Iterator[T]:
    rows = 0
    while True:
        try:
            item = next(items)
        except StopIteration:
            return
        except READING_ERRORS as error:
            raise DataError(
                f"{description} cannot be read further after {rows} rows: {cause_text(error, _file_at(dataset, files))}; repair it, or leave that file out"
            ) from error
        rows += size(item)
        yield item


def _file_at(dataset: Dataset | IterableDataset, files: Sequence[str]) -> str | None:
    """The file of the shard that a stream has come to."""
    if not files or isinstance(dataset, Dataset):
        return None
    state = dataset.state_dict()
    while isinstance(state.get("examples_iterable"), dict):
        state = state["examples_iterable"]
    shard = state.get("shard_idx")
    return files[shard] if isinstance(shard, int) and shard < len(files) else None
