"""Filling the cache of decoded images: what a batch needs by all threads at once, what later ones need by a thread behind the training."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from torch.utils.data import get_worker_info

from hfcontrast.data.cache import cpus_of_this_process
from hfcontrast.data.row_reader import RowReader
from hfcontrast.progress import LongTask

_FEW = 8  # rows; fewer are not worth the threads
_PART = 256  # rows that a thread decodes before it looks for more, where all are decoded
_PAUSE = 0.2  # seconds between looks at how far the training is


class CacheFilling(contextlib.AbstractContextManager["CacheFilling"]):
    """Decodes rows into the cache of a reader while the block lasts; does nothing where the reader has none.

    The thread works while the training does, and stands still while a batch is made: two threads that hand Python's lock to and fro are
    slower than one. In a worker process there are no further threads for what a batch needs, as the other workers have the other cores.

    Args:
        reader: The reader.
        rows: Gives the rows of a micro-batch by its number.
        stride: From one micro-batch of this reader to the next.
        ahead: How many micro-batches the thread may be ahead.
    """

    def __init__(self, reader: RowReader, rows: Callable[[int], list[int]], stride: int, ahead: int):
        self._reader, self._rows, self._stride, self._ahead = reader, rows, stride, ahead
        self._now = -1  # the micro-batch that is being made
        self._stopped, self._may_work = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._cpus = 1 if get_worker_info() else cpus_of_this_process()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._may_work.set()
        if self._thread:
            self._thread.join()
        if self._pool:
            self._pool.shutdown()

    @contextlib.contextmanager
    def making(self, micro_batch: int) -> Iterator[None]:
        """A block in which a micro-batch is made: what it lacks is decoded before, what the following ones lack after it.

        Args:
            micro_batch: Its number.
        """
        cache = self._reader.cache
        if cache is None or cache.finished:
            yield
            return
        self._may_work.clear()
        self._now = micro_batch
        missing = cache.missing(self._rows(micro_batch))
        if self._cpus > 1 and len(missing) >= _FEW:
            self._pool = self._pool or ThreadPoolExecutor(self._cpus, thread_name_prefix="decoding")
            list(self._pool.map(self._reader.decode, [missing[first :: self._cpus] for first in range(self._cpus)]))
        yield
        if self._thread is None:
            self._thread = threading.Thread(target=self._decode_later, name="decoding_later", daemon=True)
            self._thread.start()
        self._may_work.set()

    def _decode_later(self) -> None:
        number, cache = self._now, self._reader.cache
        while not self._stopped.is_set() and not cache.finished:
            number = max(number, self._now) + self._stride
            while number > self._now + self._ahead and not self._stopped.wait(_PAUSE):
                pass
            rows = self._rows(number)
            for first in range(0, len(rows), _FEW):
                self._may_work.wait()
                if self._stopped.is_set():
                    return
                with contextlib.suppress(Exception):  # which the batch meets again
                    self._reader.decode(rows[first : first + _FEW])


def fill_cache(reader: RowReader, description: str, time_limit: float | None = None) -> None:
    """Decodes all rows of a reader into its cache, by all threads.

    Args:
        reader: The reader.
        description: Of its rows.
        time_limit: Seconds after which the rest is left until it is needed; None: it may take what it takes.
    """
    parts = [range(first, min(first + _PART, reader.num_rows)) for first in range(0, reader.num_rows, _PART)]
    task = LongTask(f"decoding the images of {description}", reader.num_rows)
    begun = time.monotonic()

    def decode(part: range) -> int:
        if (
            reader.cache is None
            or reader.cache.full
            or (time_limit is not None and time.monotonic() - begun > time_limit)
        ):
            return 0
        reader.decode(part)
        return len(part)

    with task, ThreadPoolExecutor(cpus_of_this_process()) as pool:
        for count in pool.map(decode, parts):
            task.update(count)
