"""The cause of an error that ``datasets`` raises: the innermost one that says what is wrong, and the file that was read."""

import errno
import gzip
import io
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import datasets
from datasets.table import CastError

from hfcontrast.errors import HFContrastError

# Variables of the functions of these modules hold the file that they read, or all files.
_READERS = ("datasets.", "pyarrow.", "fsspec.", "pandas.", "gzip", "bz2", "lzma", "hfcontrast.data.")
_LOCALS = ("file", "filename", "file_path", "path", "data_file", "f", "fp", "source", "urlpath")
_LISTS = ("data_files", "base_data_files", "files", "gen_kwargs")
_GENERATING = re.compile(r"was generating data using\s+(.+?)(?:, \[|\s*$|\n)")  # of DatasetGenerationCastError
_NO_FIELD = re.compile(r'Field "(.+)" does not exist in schema')
_SCHEMAS = re.compile(r"Schema at index \d+ was different: (.+) vs (.+)")
_EMPTY_TEXTS = ("EmptyDataError", "StopIteration")


def cause_text(error: BaseException, file: str | None = None) -> str:
    """What is wrong in one line, with the file that was read, where that is known.

    Args:
        error: What a library raised, whatever it was raised from.
        file: The file, where the error does not tell it.
    """
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, HFContrastError):
            return str(one)
    cause, file = chain[-1], _file_of(chain) or file
    if getattr(cause, "errno", None) == errno.ENOSPC or "Not enough disk space" in str(cause):
        return (
            f"no space is left on the disk of {file or datasets.config.HF_DATASETS_CACHE}: free some, or set HF_DATASETS_CACHE to another "
            "disk"
        )
    text = _described(cause)
    if file is None:
        return _other_columns(cause, chain) or text
    if os.path.isfile(file) and not os.path.getsize(file):
        return f"{file} is empty (0 bytes)"
    return f"{file} ({text})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it was raised from, and where it says nothing itself what it was raised upon; from the outermost."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        wraps = isinstance(current, datasets.exceptions.DatasetsError) or not str(current)
        upon = None if current.__suppress_context__ or not wraps else current.__context__
        current = current.__cause__ or upon


def _described(cause: BaseException) -> str:
    """An error in one line: the commonest of them in plain words, others with their type."""
    text = " ".join(str(cause).split())
    if isinstance(cause, CastError):
        return f"its columns are {', '.join(cause.table_column_names)}, and not {', '.join(cause.requested_column_names)} as in the files before"
    if found := _NO_FIELD.search(text):
        return f"it has no column {found[1]!r}, which the files before have"
    if (found := _SCHEMAS.search(text)) and (names := _names_that_differ(str(cause))):
        return f"some of its files have the columns {names[0]} and others {names[1]}: give files with the same columns"
    if found:
        return f"its columns change their types, from {found[1].strip()} to {found[2].strip()}"
    if "as a scalar of type" in text:
        return f"{text}, which the rows before have there"
    if isinstance(cause, UnicodeDecodeError):
        return f"it is not UTF-8: {cause.reason} at byte {cause.object[cause.start]:#x}; save it in that encoding"
    if isinstance(cause, gzip.BadGzipFile):
        return f"it is not compressed as its name says: {text}"
    if type(cause).__name__ in _EMPTY_TEXTS:
        return "there are no rows in it"
    if isinstance(cause, OSError) and cause.strerror and cause.filename:
        return cause.strerror
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def _names_that_differ(message: str) -> tuple[str, str] | None:
    """The names of the columns of two schemas, of an error that shows both; None where they are the same."""
    found = [
        ", ".join(
            line.partition(": ")[0] for line in schema.splitlines() if ": " in line and not line.startswith((" ", "-"))
        )
        for schema in message.partition("was different:")[2].split("\nvs\n")
    ]
    return (found[0], found[1]) if len(found) == 2 and found[0] != found[1] else None


def _other_columns(cause: BaseException, chain: list[BaseException]) -> str | None:
    """The first of several files of CSV whose columns are not those of the first file."""
    if not isinstance(cause, CastError) and not _SCHEMAS.search(" ".join(str(cause).split())):
        return None
    files = [
        file for file in dict.fromkeys(_files_of(chain)) if file.endswith((".csv", ".tsv")) and os.path.isfile(file)
    ]
    first: str | None = None
    for file in files:
        with open(file, encoding="utf-8", errors="replace") as opened:
            header = opened.readline().strip()
        first = header if first is None else first
        if header != first:
            return (
                f"{file} (its columns are {header}, and not {first} as in {files[0]}: give files with the same columns)"
            )
    return None


def _files_of(chain: list[BaseException]) -> Iterator[str]:
    """The files in the lists that functions of the readers hold."""
    for error in chain:
        traceback = error.__traceback__
        while traceback is not None:
            frame, traceback = traceback.tb_frame, traceback.tb_next
            for name in _LISTS:
                yield from filter(None, map(_as_file, _texts(frame.f_locals.get(name))))


def _file_of(chain: list[BaseException]) -> str | None:
    """The file that was read: as an error says, else the innermost one that functions of the readers hold."""
    named = getattr(chain[-1], "filename", None)
    if isinstance(named, str):
        return named
    found: str | None = None
    several: list[str] = []
    for error in chain:
        if said := _GENERATING.search(str(error)):
            found = _as_file(said[1]) or found
        traceback = error.__traceback__
        while traceback is not None:
            frame, traceback = traceback.tb_frame, traceback.tb_next
            if str(frame.f_globals.get("__name__", "")).startswith(_READERS):
                held = dict(frame.f_locals)
                reader = getattr(
                    held.get("generator"), "gi_frame", None
                )  # the reader of a format, which others have read from
                held |= reader.f_locals if reader else {}
                values = [held[name] for name in _LOCALS if name in held]
                values += [value for value in held.values() if isinstance(value, io.IOBase)][-1:]  # opened last
                found = next((file for value in values if (file := _as_file(value))), found)
                several = several or [
                    file for name in _LISTS for text in _texts(held.get(name)) if (file := _as_file(text))
                ]
    if found is None and several:
        empty = [file for file in several if os.path.isfile(file) and not os.path.getsize(file)]
        return several[0] if len(set(several)) == 1 else next(iter(empty), None)
    return found


def _texts(value: Any) -> Iterator[str]:
    """The texts within lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


def _as_file(value: Any) -> str | None:
    """The name of a file that a variable holds; None for anything else."""
    for name in (value, getattr(value, "name", None), getattr(value, "path", None)):
        if isinstance(name, os.PathLike):
            name = os.fspath(name)
        if isinstance(name, str) and "\n" not in name and ("://" in name or os.path.isfile(name)):
            return name.rsplit("::", 1)[-1]
    return None
