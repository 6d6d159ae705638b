"""The signals that ask a run to stop, and how they are handled outside of its steps."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from .console import is_first_process

# SLURM sends SIGUSR1 as a warning where it is asked to (`--signal=USR1@90`); Windows has none.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))
_IMPATIENT = 1.0  # seconds after which a second Ctrl-C is one of its own
# What a run says that is stopped outside of its steps.
AT_ANY_TIME = "stopped; the same command resumes from the newest checkpoint, if there is one"

_depth = 0  # of blocks that handle signals
_first: tuple[int, float] | None = None  # the signal that asked the outermost of them to stop, and when


class Interrupted(BaseException):
    """The run was asked to stop, and what it had is saved. No ``Exception``: nothing that handles errors may keep it.

    Args:
        signal_number: The signal that asked.
        message: What to tell the user.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


def note(number: int) -> bool:
    """Notes that a signal came; whether it is the first: launchers send several at once.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed again after a while, to stop at once.
    """
    global _first
    if _first is None:
        _first = (number, time.monotonic())
        return True
    if number == signal.SIGINT and time.monotonic() - _first[1] > _IMPATIENT:
        raise KeyboardInterrupt
    return False


def received() -> int | None:
    """The signal that has asked the blocks around the caller to stop; None where none has."""
    return _first[0] if _depth and _first is not None else None


@contextlib.contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Hands the signals to a function during a block; in the main thread, the only one that can."""
    global _depth, _first
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if _depth == 0:
        _first = None
    _depth += 1
    former = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in former.items():
            signal.signal(number, old)
        _depth -= 1


@contextlib.contextmanager
def stopping_at_once(sentence: str) -> Iterator[None]:
    """A block that the first signal ends, as nothing in it has to be saved.

    Args:
        sentence: What to tell the user then.

    Raises:
        Interrupted: A signal came.
    """

    passed_over = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal passed_over
        if note(number):
            passed_over = number  # C code may raise something else for it
            if not _finalizing(frame):  # Python only prints what is raised there
                raise Interrupted(number, sentence)

    if _depth and _first is not None:  # passed over in the block around this one
        raise Interrupted(_first[0], sentence)
    with handling(stop):
        try:
            yield
        except Exception as error:
            if passed_over:
                raise Interrupted(passed_over, sentence) from error
            raise
        if passed_over and _depth > 1:  # the outermost block has nothing behind it that could be spared
            raise Interrupted(passed_over, sentence)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """A block in which a command is imported and parsed: Ctrl-C and SIGTERM end the process with one line and an exit code.

    An exception would be taken for one of an import. Signals that are ignored, or handled by a caller, stay so.
    """
    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    own = [number for number, handler in usual.items() if signal.getsignal(number) == handler]
    if threading.current_thread() is not threading.main_thread():
        own = []
    try:
        for number in own:
            signal.signal(number, _end)
        yield
    finally:
        for number in own:
            signal.signal(number, usual[number])


def _end(number: int, _frame: FrameType | None) -> None:
    if is_first_process():
        os.write(2, b"interrupted\n" if number == signal.SIGINT else b"stopped\n")
    os._exit(128 + number)  # nothing has been opened yet


def _finalizing(frame: FrameType | None) -> bool:
    """Whether a finalizer is among the functions that run."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


@contextlib.contextmanager
def left_to_the_system() -> Iterator[None]:
    """A block that waits in C code, where no handler of Python's would be called: a signal ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in former.items():
            signal.signal(number, old)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Holds the signals back from this thread during a block; processes that it starts there have them held back too."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def ignore() -> None:
    """Ignores the signals from now on, in a worker process: they reach every process of a group, and its owner decides."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
