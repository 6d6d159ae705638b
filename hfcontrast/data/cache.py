"""Decoded pixels of a whole data set in memory, for data sets that fit: an epoch then decodes nothing."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch

from hfcontrast.data.decode import UnreadableImage
from hfcontrast.data.image_reader import ImageReader

_CHUNK = 1024  # rows decoded into one buffer
_SAMPLE = 64  # rows whose size is looked at for the estimate
_SHARE = 0.25  # of the available memory that a cache may take without being asked for


class DecodedRows:
    """Pixels of all rows as uint8.

    Args:
        read: Gives the undecoded image values of a range of rows.
        images: Reads the images.
        num_rows: How many rows there are.
        shared: Whether the pixels go to shared memory, for workers that are not forked.

    Attributes:
        unreadable: For each row that cannot be read, why.
    """

    def __init__(self, read: Callable[[Sequence[int]], list], images: ImageReader, num_rows: int, shared: bool = False):
        self.unreadable: dict[int, str] = {}
        self.nbytes = 0
        self._chunks: list[torch.Tensor] = []
        self._offsets = np.zeros(num_rows, dtype=np.int64)
        self._shapes = np.zeros((num_rows, 2), dtype=np.int32)
        with ThreadPoolExecutor(cpus_of_this_process()) as threads:
            for first in range(0, num_rows, _CHUNK):
                rows = range(first, min(first + _CHUNK, num_rows))
                self._add_chunk(rows, list(threads.map(partial(_decode, images), read(rows))), shared)

    def _add_chunk(self, rows: range, decoded: list[np.ndarray | UnreadableImage], shared: bool) -> None:
        offset, parts = 0, []
        for row, pixels in zip(rows, decoded, strict=True):
            if isinstance(pixels, UnreadableImage):
                self.unreadable[row] = str(pixels)
                continue
            self._offsets[row], self._shapes[row] = offset, pixels.shape[:2]
            parts.append(pixels.reshape(-1))
            offset += pixels.size
        chunk = torch.from_numpy(np.concatenate(parts) if parts else np.empty(0, dtype=np.uint8))
        self._chunks.append(chunk.share_memory_() if shared else chunk)
        self.nbytes += offset

    def pixels(self, row: int) -> np.ndarray:
        """(H, W, 3) uint8 of one row, not to be written to.

        Raises:
            UnreadableImage: The row could not be decoded.
        """
        if row in self.unreadable:
            raise UnreadableImage(self.unreadable[row])
        height, width = self._shapes[row]
        start = self._offsets[row]
        return self._chunks[row // _CHUNK].numpy()[start : start + height * width * 3].reshape(height, width, 3)


def _decode(images: ImageReader, image: dict | None) -> np.ndarray | UnreadableImage:
    try:
        return images.pixels(image)
    except UnreadableImage as error:
        return error


def fits_in_memory(read: Callable[[Sequence[int]], list], images: ImageReader, num_rows: int) -> bool:
    """Whether the decoded rows would take less than a quarter of this process's share of the available memory.

    Args:
        read: Gives the undecoded image values of some rows.
        images: Reads the images.
        num_rows: How many rows there are.
    """
    rows = np.unique(np.linspace(0, num_rows - 1, _SAMPLE).astype(int)).tolist()
    sizes = [size for image in read(rows) if (size := images.size(image))]
    if not sizes:
        return False
    return bool(np.mean(sizes) * 3 * num_rows < _SHARE * _local_share(available_memory()))


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
