"""One process at a time in an output folder: a lock that is released when the process ends, however it ends."""

import contextlib
import errno
import os
import socket
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from .atomic import writing
from .errors import OutputError

FILE = ".lock"
_held: dict[Path, tuple[FileLock, int]] = {}  # with the process that holds it: a fork's child has none


def hold(folder: Path, setting: str) -> None:
    """Keeps other processes out of a folder until :func:`release`, or the end of this process.

    The system's own lock of a file in it, which the system releases however a process ends; file servers (NFS) keep it over
    several machines. What cannot be locked at all is used with a warning. A process that holds it already may ask again.

    Args:
        folder: The folder, which exists.
        setting: What another folder is chosen with, such as ``train.output``.

    Raises:
        OutputError: Another process holds it, or nothing can be written there.
    """
    place = Path(os.path.realpath(folder))
    lock, process = _held.get(place, (None, 0))
    if lock is not None and process == os.getpid() and lock.is_locked:
        return
    lock = FileLock(place / FILE, timeout=0, thread_local=False)
    with writing(str(folder), f"make it writable, free some space, or choose another {setting}"):
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"{folder} is in use by another {_holder(place)}: wait for its end, stop it, or choose another {setting}"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
            warnings.warn(
                f"{folder} is on a file system without locks ({error.strerror}): see to it that no other run uses this folder",
                stacklevel=2,
            )
            return
        _held[place] = (lock, os.getpid())
        (place / FILE).write_text(_this_process(), encoding="utf-8")


def release(folder: Path) -> None:
    """Lets others into a folder, if this process has kept them out."""
    place = Path(os.path.realpath(folder))
    lock, process = _held.pop(place, (None, 0))
    if lock is not None and process == os.getpid():
        with contextlib.suppress(OSError):
            (
                place / FILE
            ).unlink()  # while it is locked: a process that has opened it sees that it is gone, and creates a new one
        lock.release(force=True)


@contextlib.contextmanager
def held(folder: Path, setting: str) -> Iterator[None]:
    """Keeps other processes out of a folder during a block; see :func:`hold`."""
    hold(folder, setting)
    try:
        yield
    finally:
        release(folder)


def _this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now():%Y-%m-%d %H:%M:%S}"


def _holder(place: Path) -> str:
    """Who holds a folder, as far as it says so."""
    with contextlib.suppress(OSError, ValueError):
        text = (place / FILE).read_text(encoding="utf-8").strip()
        if text.startswith("process ") and "\n" not in text:
            return f"run ({text})"
    return "run"
