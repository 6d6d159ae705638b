"""Streams: rows of an iterable data set in a shuffled order that a resumed run continues exactly.

In every pass the shards come in another order, and within blocks of some hundred rows the rows do. Both orders are
functions of the seed and the pass, so nothing random has to be saved: a state is where the block began and how many of its
rows were taken. A row is known by its place (see ``shards``), so its views, its masks and its caption depend on seed, pass and
place alone; which rows share a batch depends on the number of workers and processes, which read shards of their own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import fsspec.asyn
import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from hfcontrast.data.batches import BatchBuilder, Sample
from hfcontrast.data.captions import captions_of, usable_captions
from hfcontrast.data.decode import UnreadableRow
from hfcontrast.data.image_reader import ImageReader
from hfcontrast.data.keyed_random import hash_numbers
from hfcontrast.data.shards import Cursor, Placed, Shards
from hfcontrast.data.stream_errors import READING_ERRORS, error_text
from hfcontrast.data.tensor_columns import without_value
from hfcontrast.errors import DataError

_SHARDS, _BLOCK = 1, 2  # what an order is drawn for

_NONE_AT_FIRST = (
    1000  # rows, at the beginning, of which no image can be read: then it is not waited for the end of the stream
)
_ALLOWED_TO_WAIT = 0.5  # the share of unreadable rows that may be left out, up to which that is too many

FRESH = {"pass": 0, "block": None, "taken": 0, "seen": 0}


@dataclass(frozen=True)
class Share:
    """Which rows one reader reads: shards of its own, or where processes cannot have as many each, every n-th row of all.

    Attributes:
        process_index: The process.
        num_processes: How many processes read.
        worker: The worker of this process.
        workers: How many workers it has.
    """

    process_index: int = 0
    num_processes: int = 1
    worker: int = 0
    workers: int = 1

    def shards(self, count: int) -> list[int]:
        """The numbers of the shards, of ``count``."""
        mine = range(count) if count % self.num_processes else range(self.process_index, count, self.num_processes)
        return list(mine)[self.worker :: self.workers]

    def has(self, row: Placed, shards: Shards) -> bool:
        """Whether a row of these shards is among those read."""
        if shards.count % self.num_processes == 0:
            return True
        place = row.index if shards.numbered else row.shard + row.offset
        return place % self.num_processes == self.process_index


class StreamBatches(IterableDataset):
    """The micro-batches of one process, endlessly; each worker makes its own from the shards that are its own.

    Args:
        shards: The rows, images undecoded.
        builder: Makes the batches.
        images: Reads the images.
        share: Which process this is; the worker is found where it runs.
        rows: Rows of a micro-batch.
        block: Rows that are shuffled among each other.
        states: For each worker where it continues from: ``FRESH`` or what came with its last batch.
        next_worker: The worker that makes the next batch.
        allowed: The share of unreadable rows that may be left out.
    """

    def __init__(
        self,
        shards: Shards,
        builder: BatchBuilder,
        images: ImageReader,
        share: Share,
        rows: int,
        block: int,
        states: list[dict],
        next_worker: int,
        allowed: float = 1.0,
    ):
        self.shards = shards
        self.builder = builder
        self.images = images
        self.share = share
        self.rows = rows
        self.block = block
        self.states = states
        self.next_worker = next_worker
        self.allowed = allowed

    def __iter__(self) -> Iterator[dict | None]:
        worker, number = get_worker_info(), 0
        share = self.share
        if worker:
            number = worker.id
            share = Share(share.process_index, share.num_processes, number, worker.num_workers)
            fsspec.asyn.reset_lock()  # of the process that was forked: reading an address could wait for it for ever
        if number < self.next_worker:  # DataLoader begins its round at worker 0; the receiver drops the None
            yield None
        state = dict(self.states[number])
        reader = _Reader(self.shards, self.builder, self.images, share, self.block, state, self.allowed)
        samples = reader.samples()
        while True:
            try:
                batch = self.builder.build(samples, self.rows)
            except DataError as error:
                yield {"error": str(error)}
                return
            unreadable, reader.unreadable = reader.unreadable, {}
            # As text, because pinning and default conversions would walk through the state.
            yield {
                "batch": batch,
                "unreadable": unreadable,
                "cut_off": self.builder.cut_off,
                "worker": number,
                "state": json.dumps(reader.state),
            }


class _Reader:
    """Reads and decodes the rows of one worker."""

    def __init__(
        self,
        shards: Shards,
        builder: BatchBuilder,
        images: ImageReader,
        share: Share,
        block: int,
        state: dict,
        allowed: float,
    ):
        self.shards = shards
        self.builder = builder
        self.images = images
        self.share = share
        self.block = block
        self.state = state
        self.impatient = allowed <= _ALLOWED_TO_WAIT
        self.unreadable: dict[str, str] = {}

    def samples(self) -> Iterator[Sample]:
        """Decoded rows without end; ``state`` is always that after the last one."""
        while True:
            nothing_yet = self.state["block"] is None and self.state["taken"] == 0
            any_row = False
            for sample in self._one_pass():
                any_row = True
                if sample is not None:
                    nothing_yet = False
                    yield sample
                elif nothing_yet and self._in_vain():
                    raise DataError(
                        f"none of the first {len(self.unreadable):,} rows of the stream can be read, e.g. {self._examples()}; "
                        f"data.max_unreadable above {_ALLOWED_TO_WAIT:g} looks further"
                    )
            if nothing_yet and not any_row:
                raise DataError(
                    "the stream has no rows for this worker: its shards are empty; fewer data.workers or processes share them otherwise"
                )
            if nothing_yet:
                raise DataError(f"no image could be read in a whole pass over the stream, e.g. {self._examples()}")
            self.state = self.state | {"pass": self.state["pass"] + 1, "block": None, "taken": 0}

    def _in_vain(self) -> bool:
        """Whether so many rows at the beginning cannot be read that these are too many, whatever comes."""
        return self.state["pass"] == 0 and self.impatient and len(self.unreadable) >= _NONE_AT_FIRST

    def _examples(self) -> str:
        return "; ".join(f"{name}: {cause}" for name, cause in list(self.unreadable.items())[:5])

    def _one_pass(self) -> Iterator[Sample | None]:
        """Every row once; None for one that cannot be read."""
        for block in self._blocks():
            keys = hash_numbers(self.builder.seed, self.state["pass"], _BLOCK, _numbers(row.index for row in block))
            order = np.argsort(keys, kind="stable").tolist()
            for number in order[self.state["taken"] :]:
                self.state = self.state | {"taken": self.state["taken"] + 1}
                if self.share.has(block[number], self.shards):
                    if self.state["pass"] == 0:
                        self.state["seen"] += 1
                    yield self._decode(block[number])

    def _blocks(self) -> Iterator[list[Placed]]:
        mine = self.share.shards(self.shards.count)
        keys = hash_numbers(self.builder.seed, self.state["pass"], _SHARDS, _numbers(mine))
        order = [mine[number] for number in np.argsort(keys, kind="stable")]
        cursor = Cursor(self.shards, order, self.state["block"])
        while block := self._take(cursor):
            yield block
            self.state = self.state | {"block": cursor.position, "taken": 0}

    def _take(self, cursor: Cursor) -> list[Placed]:
        try:
            return cursor.take(self.block)
        except READING_ERRORS as error:
            shard = cursor.shard
            file = self.shards.files[shard] if self.shards.files and shard is not None else None
            raise DataError(
                f"shard {shard} of the stream (of {self.shards.count}, counted from 0) cannot be read further: "
                f"{error_text(error, file)}; the same command resumes from the newest checkpoint once it can be"
            ) from error

    def _decode(self, placed: Placed) -> Sample | None:
        row, captions = placed.row, self.builder.captions
        extra = tuple(row[column] for column in self.builder.columns)
        try:
            if cause := without_value(extra, self.builder.columns, self.builder.tensors):
                raise UnreadableRow(cause)
            texts = usable_captions(captions_of(row, captions.path)) if captions else None
            pixels = self.images.pixels(row["image"])
        except UnreadableRow as error:
            self.unreadable[self.shards.name(placed)] = str(error)
            return None
        label = self.builder.labels.number(row.get("label"))
        return Sample(pixels, placed.index, self.state["pass"], placed.index, label, extra, texts)


def _numbers(values) -> np.ndarray:
    return np.fromiter(values, dtype=np.uint64)
