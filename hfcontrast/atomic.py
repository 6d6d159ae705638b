"""Atomic writes: everything in an output folder is written here, to a temporary name that is flushed to the disk and renamed.

So a file or folder is complete or does not exist, however the process ends. It obeys the umask. Temporary names begin with
``.unfinished_`` (see :func:`temporary`); those that a killed process left are removed by :func:`remove_unfinished`.
"""

import contextlib
import errno
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import HFContrastError, OutputError, out_of_memory

_HARDLY_ANY = 1 << 20  # bytes
UNFINISHED = ".unfinished_"
# What file systems answer that cannot flush a file or a folder; nothing more can be done there.
_NOT_SUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def temporary(path: Path, shared: bool = False) -> Path:
    """The temporary name, beside ``path``, of what is to be written there.

    Args:
        path: The final name.
        shared: One name for all processes that write it together; else each call gives another.
    """
    return path.with_name(f"{UNFINISHED}{path.name}" + ("" if shared else f"_{secrets.token_hex(4)}"))


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Gives a temporary name to write to; at the end of the block that file takes the place of ``path``.

    A link is followed. What is not a regular file (``/dev/stdout``, a pipe) has no contents to lose: it is written to directly.
    Where the block raises, ``path`` stays as it was.

    Raises:
        OSError: It cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        yield path
        return
    path = Path(os.path.realpath(path))
    unfinished = temporary(path)
    try:
        unfinished.open("x").close()
        mode = unfinished.stat().st_mode & 0o777  # that of a new file; some libraries make theirs with fewer rights
        yield unfinished
        flush(unfinished, mode)
        os.replace(unfinished, path)
        flush(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Gives a temporary folder to fill, whose parents are made; at the end of the block it takes the place of ``path``.

    Raises:
        OSError: It cannot be written.
    """
    path = Path(path)
    unfinished = temporary(path)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        commit_folder(unfinished, path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def commit_folder(unfinished: Path, path: Path) -> None:
    """Flushes everything in a folder to the disk and gives the folder its final name, in place of what has it."""
    _flush_all(unfinished)
    if path.exists():
        former = temporary(path.with_name(f"former_{path.name}"))
        os.replace(path, former)
        os.replace(unfinished, path)
        shutil.rmtree(former)
    else:
        os.replace(unfinished, path)
    flush(path.parent)


@contextlib.contextmanager
def atomic_files(folder: str | Path, beside: bool = False) -> Iterator[Path]:
    """Gives a temporary folder to fill; at the end of the block its files take the places of those in ``folder``, one by one.

    Other files of ``folder`` stay.

    Args:
        folder: Where the files belong; made if needed.
        beside: Whether the temporary folder is beside ``folder`` instead of in it.

    Raises:
        OSError: They cannot be written.
    """
    folder = Path(folder)
    unfinished = temporary(folder if beside else folder / "files")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        move_files(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def move_files(source: Path, target: Path) -> None:
    """Moves every file of a folder into another, over those that are there, and removes the folder.

    Every file is flushed first, so that each of those in ``target`` is complete: the former or the new one.
    """
    _flush_all(source)
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        os.replace(file, target / file.name)
    source.rmdir()
    flush(target)


def make_folder(path: str | Path) -> None:
    """Makes a folder where there is none, and tries whether files can be written in it.

    Raises:
        OSError: It cannot be made, or nothing can be written in it.
    """
    Path(path).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
        pass


def try_folder(path: str | Path) -> None:
    """Tries whether a folder could be made, or written in where there is one; makes nothing.

    Raises:
        OSError: It could not.
    """
    path = Path(path)
    while not path.exists() and path != path.parent:
        path = path.parent
    with tempfile.TemporaryFile(dir=path):
        pass


def try_file(path: str | Path) -> None:
    """Tries whether a file could be written; writes nothing.

    Raises:
        OSError: It could not.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.is_file() or not path.exists():  # else a pipe or a device
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def write_text(path: str | Path, text: str) -> None:
    """Writes a text, as UTF-8 and with its line ends as they are."""
    with atomic_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        file.write(text)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes bytes."""
    with atomic_file(path) as unfinished, unfinished.open("wb") as file:
        file.write(content)


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON, indented; see :func:`json_text`."""
    write_text(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON that every parser reads: numbers that are not finite, which JSON does not have, are null."""
    try:
        return json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(without_nan(value), indent=indent, allow_nan=False)


def without_nan(value: Any) -> Any:
    """A value of dictionaries, lists and numbers with None in place of numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: without_nan(one) for name, one in value.items()}
    return [without_nan(one) for one in value] if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def writing(
    what: str, advice: str = "free some space, or choose another folder", whatever: bool = False
) -> Iterator[None]:
    """A context for writing: errors of the system or of a library in it become one message.

    Args:
        what: What is written.
        advice: What to do.
        whatever: Whether every error of the system or of a library counts, as the block does nothing else; then ``what`` is the
            path, and the message gives the free space there.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        yield
    except Exception as error:
        if _is_gone(error):
            raise OutputError(
                f"{what} cannot be written: its folder is not there, or was removed or moved; put it back, or choose another"
            ) from error
        cause = _cause(error)
        if whatever and not isinstance(error, HFContrastError) and not out_of_memory(error):
            cause = cause if isinstance(error, OSError) and cause else _cause_and_space(error, Path(what))
        if cause is None:
            raise
        raise OutputError(f"{what} cannot be written ({cause}): {advice}") from error


def _is_gone(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or ("Parent directory" in str(error) and "not exist" in str(error))


def _cause_and_space(error: Exception, path: Path) -> str:
    """What a library says, which may be little, and how much space there is."""
    while not path.exists() and path != path.parent:
        path = path.parent
    with contextlib.suppress(OSError):
        if (free := shutil.disk_usage(path).free) < _HARDLY_ANY:
            return os.strerror(errno.ENOSPC)
        first = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        return f"{first}; {free / 1e9:,.1f} GB are free, so perhaps a quota or a limit of the size of a file"
    return type(error).__name__


def _cause(error: Exception) -> str | None:
    """Why something was not written; None for an error of another kind."""
    if isinstance(error, OSError):
        return error.strerror  # None for those that libraries raise of their own
    text = str(error)  # safetensors and torch have errors of their own
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return "No space left on device"
    if type(error).__name__ == "SafetensorError" or "PytorchStreamWriter" in text or "unexpected pos" in text:
        return text.splitlines()[0]
    return None


def remove_unfinished(folder: Path) -> None:
    """Removes what killed processes left in a folder; no other process may be writing there."""
    for leftover in folder.glob(f"{UNFINISHED}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def flush(path: Path, mode: int | None = None) -> None:
    """Waits until a file's contents, or a folder's entries, are on the disk.

    Args:
        path: The file or folder.
        mode: Access rights that a file is to have.
    """
    if os.name == "nt" and path.is_dir():  # cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if mode is not None and os.name != "nt":
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    finally:
        os.close(descriptor)


def _flush_all(folder: Path) -> None:
    mode = folder.stat().st_mode & 0o666  # what the umask has left of a new folder's rights
    for path in folder.rglob("*"):
        flush(path, None if path.is_dir() else mode)
    flush(folder)
