"""Decoded images in memory, for data sets that fit: each is decoded when it is first needed, and no epoch decodes it again."""

import mmap
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.data import get_worker_info

from hfcontrast.data.image_reader import ImageReader

_SAMPLE = 64  # rows whose size is looked at for the estimate
_SHARE = 0.25  # of the available memory that a cache may take without being asked for
_SLACK = 1 << 24  # bytes by which a cache may exceed twice its estimated size
_UNREADABLE, _BEING_COPIED = -1, -2  # in the place of an image that is not there
_USED, _FULL, _SEEN = range(
    3
)  # numbers of a region: bytes used, whether an image found no place, rows that were put in


class DecodedRows:
    """Pixels of rows as uint8, put in one by one; worker processes see what any of them has put in.

    Each worker writes to a region of its own: there is no lock that one that is killed could keep. Where workers are forked or threads, nothing is
    taken of the memory but what was put in; where they are spawned, all of it is taken at once.

    Args:
        num_rows: How many rows there are.
        capacity: Bytes of all pixels at most. What finds no place is not kept.
        workers: How many processes put rows in; 0: this one.
        pickled: Whether it goes to workers that are not forked.
        channels: Of the images.

    Raises:
        OSError: The system does not give so much memory.
    """

    def __init__(self, num_rows: int, capacity: int, workers: int = 0, pickled: bool = False, channels: int = 3):
        self.channels = channels
        self.num_rows, self.regions = num_rows, max(1, workers)
        self.capacity = capacity // self.regions  # of a region
        size = 24 * (self.regions + num_rows) + self.capacity * self.regions
        self._memory: Any = torch.zeros(size, dtype=torch.uint8).share_memory_() if pickled else _untouched(size)
        self._look_in()

    def _look_in(self) -> None:
        memory = self._memory
        memory = memory.numpy() if isinstance(memory, torch.Tensor) else np.frombuffer(memory, np.uint8)
        head, index, self._pixels = np.split(memory, np.cumsum([24 * self.regions, 24 * self.num_rows]))
        self._head = head.view(np.int64).reshape(-1, 3)
        self._index = index.view(np.int64).reshape(
            -1, 3
        )  # for each row: where it begins, counted from 1; height; width
        self._lock = threading.Lock()  # of the threads of this process

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in vars(self).items() if name not in ("_head", "_index", "_pixels", "_lock")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._look_in()

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels that are there."""
        return int(self._head[:, _USED].sum())

    @property
    def finished(self) -> bool:
        """Whether this process can add nothing: all rows were put in, or one found no place."""
        return bool(self._head[self._region(), _FULL]) or self._head[:, _SEEN].sum() >= self.num_rows

    @property
    def full(self) -> bool:
        """Whether an image has found no place, in any region."""
        return bool(self._head[:, _FULL].any())

    def get(self, row: int) -> np.ndarray | None:
        """(H, W, C) uint8 of one row, not to be written to; None where it is not there."""
        place, height, width = self._index[row].tolist()
        if place <= 0:
            return None
        size = height * width * self.channels
        return self._pixels[place - 1 : place - 1 + size].reshape(height, width, self.channels)

    def missing(self, rows: Sequence[int]) -> list[int]:
        """Those of some rows that were never put in."""
        return [row for row, place in zip(rows, self._index[rows, 0].tolist(), strict=True) if not place]

    def put(self, row: int, pixels: np.ndarray | None) -> None:
        """Keeps the pixels of a row, if it has none and they find a place.

        Args:
            row: Its number.
            pixels: (H, W, C) uint8; None for a row that cannot be read.
        """
        region = self._region(row)
        head, size = self._head[region], 0 if pixels is None else pixels.size
        with self._lock:
            if self._index[row, 0]:
                return
            used = int(head[_USED])
            if used + size > self.capacity:
                head[_FULL] = 1
                return
            self._index[row, 0] = _UNREADABLE if pixels is None else _BEING_COPIED
            head[_USED], head[_SEEN] = used + size, head[_SEEN] + 1
        if pixels is not None:
            begin = region * self.capacity + used
            self._pixels[begin : begin + size] = pixels.reshape(-1)
            with self._lock:  # a lock is a barrier: whoever sees the place sees the pixels
                self._index[row, 1:] = pixels.shape[:2]
                self._index[row, 0] = begin + 1

    def _region(self, row: int = 0) -> int:
        worker = get_worker_info()
        return (worker.id if worker else row) % self.regions  # a process without workers fills all of them


def _untouched(size: int) -> mmap.mmap:
    """Memory that forked processes share, of which the system gives what is written to."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return mmap.mmap(-1, size)
    return mmap.mmap(-1, size, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0))


def estimated_bytes(read: Callable[[Sequence[int]], list], images: ImageReader, num_rows: int) -> int | None:
    """Bytes that the decoded rows would take, after some of them; None where none of those can be read.

    Args:
        read: Gives the undecoded image values of some rows.
        images: Reads the images.
        num_rows: How many rows there are.
    """
    rows = np.unique(np.linspace(0, num_rows - 1, _SAMPLE).astype(int)).tolist()
    sizes = [size for image in read(rows) if (size := images.size(image))]
    return int(np.mean(sizes) * images.channels * num_rows) if sizes else None


def allowed_bytes(asked_for: bool) -> int:
    """Bytes that a cache of this process may take.

    Args:
        asked_for: Whether the user wants a cache: then it may take what there is, else a quarter of it.
    """
    return int((1 if asked_for else _SHARE) * _local_share(available_memory()))


def make_cache(
    num_rows: int, estimate: int, allowed: int, workers: int, pickled: bool, channels: int = 3
) -> DecodedRows | None:
    """An empty cache, with room beyond the estimate; None where the system does not give the memory.

    Args:
        num_rows: How many rows there are.
        estimate: See :func:`estimated_bytes`.
        allowed: See :func:`allowed_bytes`.
        workers: As of :class:`DecodedRows`, and so are ``pickled`` and ``channels``.
    """
    room = estimate // 4 if pickled else estimate  # what is taken at once is taken sparingly
    try:
        return DecodedRows(num_rows, min(estimate + room + _SLACK, allowed), workers, pickled, channels)
    except (OSError, ValueError, OverflowError, RuntimeError):  # of mmap and of torch
        return None


def about_cache(
    estimate: int | None, allowed: int, kept: bool, asked_for: bool, largest: int | None = None
) -> str | None:
    """One line on what is kept, or why nothing is; None where that cannot be said.

    Args:
        estimate: See :func:`estimated_bytes`.
        allowed: See :func:`allowed_bytes`.
        kept: Whether decoded images are kept.
        asked_for: Whether the user wants it.
        largest: See :class:`.image_reader.ImageReader`.
    """
    if estimate is None:
        return None
    free = _in_words(allowed if asked_for else int(allowed / _SHARE))
    if kept:
        size = f", no larger than {largest} x {largest} px (data.cache_size)" if largest else ""
        return (
            f"images: each is decoded once and kept in memory{size}, about {_in_words(estimate)} in all (free: {free})"
        )
    if asked_for:
        return f"images: decoded in every epoch, as the system does not give the {_in_words(estimate)} to keep them"
    return (
        f"images: decoded in every epoch, as keeping them takes about {_in_words(estimate)}, more than a quarter of the memory (free: "
        f"{free}); data.cache=true keeps as many as find room"
    )


def _in_words(size: int) -> str:
    unit, name = (1e9, "GB") if size >= 1e9 else (1e6, "MB")
    return f"{size / unit:,.1f} {name}"


def available_memory() -> int:
    """Bytes that can still be taken: the machine's, or less where the container has a limit."""
    available = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()).isdigit():
        available = min(available, max(0, int(text) - int(used.read_text())))
    return available


def cpus_of_this_process() -> int:
    """Cores that one of the training processes on this machine may count on."""
    return _local_share(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _local_share(amount: int) -> int:
    """What of a machine's resource is left to one of the training processes on it."""
    return max(1, amount // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
