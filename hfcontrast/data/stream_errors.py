"""Errors while data is read: one sentence each, with the name of the damaged file where it is known."""

from collections.abc import Iterable, Iterator
from typing import Any

import datasets
import pyarrow

from hfcontrast.errors import DataError

LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, datasets.exceptions.DatasetsError)
READING_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, pyarrow.ArrowException)


def read_batches(batches: Iterable[dict[str, list[Any]]], description: str) -> Iterator[dict[str, list[Any]]]:
    """The batches of a stream, up to its end.

    Args:
        batches: As ``IterableDataset.iter`` gives them.
        description: A description of what is read, for messages.

    Raises:
        DataError: It cannot be read further.
    """
    rows, batches = 0, iter(batches)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except READING_ERRORS as error:
            raise DataError(
                f"{description} cannot be read further after {rows} rows: {error_text(error)}; repair it, or leave that file out"
            ) from error
        rows += len(next(iter(batch.values()), []))
        yield batch


def error_text(error: BaseException) -> str:
    """An error with the file that was read, where that is known: the readers of ``datasets`` only log it."""
    file, traceback = None, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__", "").startswith("datasets.packaged_modules."):
            file = traceback.tb_frame.f_locals.get("file", file)
        traceback = traceback.tb_next
    text = f"{type(error).__name__}: {error}"
    return f"{file} ({text})" if isinstance(file, str) else text
