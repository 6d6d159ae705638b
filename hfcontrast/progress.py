"""Progress lines of long tasks: none in the first seconds, then the task, its progress, and its end."""

import contextlib
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable

from .console import is_first_process

AFTER = 5.0  # seconds until the first line; each of the following pauses is twice as long
_LONGEST = 60.0  # of the pauses

_open: list["LongTask"] = []  # the innermost one last: it alone prints


def duration(seconds: float) -> str:
    """A time in words: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class LongTask(contextlib.AbstractContextManager["LongTask"]):
    """A block that may take long; says so on standard error once it has taken :data:`AFTER` seconds, and again in ever longer intervals.

    Of several processes the first one prints; workers of a loader never do.

    Args:
        doing: What is being done, as a line begins: ``decoding the images of photos``.
        total: How many of something there are, where that is known.
        write: Prints a line.
    """

    def __init__(self, doing: str, total: int | None = None, write: Callable[[str], object] | None = None):
        self.doing, self.total, self.done = doing, total, 0
        self._write = _print if write is None else write
        self._ended = threading.Event()
        self._told = False
        self._begun = 0.0

    def __enter__(self) -> "LongTask":
        self._begun = time.monotonic()
        if _prints():
            _open.append(self)
            threading.Thread(target=self._tell, name="progress", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(ValueError):
            _open.remove(self)
        if self._told and kind is None:
            self._write(f"{self.doing}: finished after {time.monotonic() - self._begun:.0f} s")

    def update(self, count: int = 1) -> None:
        """Counts what is finished.

        Args:
            count: How many more.
        """
        self.done += count

    def line(self) -> str:
        """What is being done, how much of it is finished, and since when."""
        of = "" if self.total is None else f" of {self.total:,}"
        counted = f": {self.done:,}{of}" if self.done or self.total is not None else " ..."
        return f"{self.doing}{counted} ({time.monotonic() - self._begun:.0f} s so far)"

    def _tell(self) -> None:
        pause = AFTER
        while not self._ended.wait(pause):
            if _open and _open[-1] is self:
                self._told = True
                self._write(self.line())
            pause = min(2 * pause, _LONGEST)


def _prints() -> bool:
    return is_first_process() and multiprocessing.parent_process() is None


def _print(line: str) -> None:
    if bars := sys.modules.get("tqdm"):  # above its bars
        bars.tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr, flush=True)
