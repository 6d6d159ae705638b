"""Streams: rows of an iterable data set in a shuffled order that a resumed run continues exactly.

In every pass the shards come in another order, and within blocks of some hundred rows the rows do. Both orders are
functions of the seed and the pass, so nothing random has to be saved: a state is where the block began (the stream's
own state) and how many of its rows were taken.
"""

import inspect
import itertools
import pickle
from collections.abc import Iterator

import numpy as np
import xxhash
from datasets import IterableDataset as Stream
from torch.utils.data import IterableDataset, get_worker_info

from hfcontrast.data.batches import BatchBuilder, Sample
from hfcontrast.data.captions import captions_of, usable_captions
from hfcontrast.data.decode import UnreadableRow, decode_pixels, read_bytes
from hfcontrast.data.randomness import hash_numbers
from hfcontrast.data.tensor_columns import without_value
from hfcontrast.errors import DataError

_SHARDS, _BLOCK = 1, 2  # what an order is drawn for
# No shuffle buffer: it would be lost on resuming. Older versions of datasets never read several shards at once.
_ONLY_SHARDS = {"buffer_size": 1}
if "max_buffer_input_shards" in inspect.signature(Stream.shuffle).parameters:
    _ONLY_SHARDS["max_buffer_input_shards"] = 1

FRESH = {"pass": 0, "block": None, "taken": 0, "position": 0, "seen": 0}


class StreamBatches(IterableDataset):
    """The micro-batches of one process, endlessly; each worker makes its own from the shards that are its own.

    Args:
        stream: The rows, images undecoded, split over the processes.
        builder: Makes the batches.
        rows: Rows of a micro-batch.
        block: Rows that are shuffled among each other.
        states: For each worker where it goes on from: ``FRESH`` or what came with its last batch.
        next_worker: The worker that makes the next batch.
    """

    def __init__(
        self, stream: Stream, builder: BatchBuilder, rows: int, block: int, states: list[dict], next_worker: int
    ):
        self.stream = stream
        self.builder = builder
        self.rows = rows
        self.block = block
        self.states = states
        self.next_worker = next_worker

    def __iter__(self) -> Iterator[dict | None]:
        worker = get_worker_info()
        number = worker.id if worker else 0
        if number < self.next_worker:  # DataLoader begins its round at worker 0; the receiver drops the None
            yield None
        reader = _Reader(self.stream, self.builder, self.block, dict(self.states[number]))
        samples = reader.samples()
        while True:
            try:
                batch = self.builder.build(samples, self.rows)
            except DataError as error:
                yield {"error": str(error)}
                return
            unreadable, reader.unreadable = reader.unreadable, {}
            # Bytes, as pinning and default conversions would walk through the state.
            yield {
                "batch": batch,
                "unreadable": unreadable,
                "cut_off": self.builder.cut_off,
                "worker": number,
                "state": pickle.dumps(reader.state),
            }


class _Reader:
    """Reads and decodes the rows of one worker."""

    def __init__(self, stream: Stream, builder: BatchBuilder, block: int, state: dict):
        self.stream = stream
        self.builder = builder
        self.block = block
        self.state = state
        self.unreadable: dict[str, str] = {}

    def samples(self) -> Iterator[Sample]:
        """Decoded rows without end; ``state`` is always that after the last one."""
        while True:
            nothing_yet = self.state["block"] is None and self.state["taken"] == 0
            for sample in self._one_pass():
                nothing_yet = False
                yield sample
            if nothing_yet and self.state["position"] == 0:
                raise DataError("the stream has no rows for this worker")
            if nothing_yet:
                named = "; ".join(f"{name}: {cause}" for name, cause in list(self.unreadable.items())[:5])
                raise DataError(f"no image could be read in a whole pass over the stream, e.g. {named}")
            self.state |= {"pass": self.state["pass"] + 1, "block": None, "taken": 0, "position": 0}

    def _one_pass(self) -> Iterator[Sample]:
        for block, position in self._blocks():
            ids = np.array([_order_id(row) for row in block], dtype=np.uint64)
            keys = hash_numbers(self.builder.seed, self.state["pass"], _BLOCK, ids)
            order = np.argsort(keys, kind="stable").tolist()
            for number in order[self.state["taken"] :]:
                self.state = self.state | {"taken": self.state["taken"] + 1, "seen": self.state["seen"] + 1}
                sample = self._decode(block[number], position + number)
                if sample is not None:
                    yield sample

    def _blocks(self) -> Iterator[tuple[list[dict], int]]:
        # A shuffled copy for each pass: set_epoch would change the pass of the other workers, who share that number.
        seed = int(hash_numbers(self.builder.seed, self.state["pass"], _SHARDS)[0] >> np.uint64(1))
        stream = self.stream.shuffle(seed=seed, **_ONLY_SHARDS)
        if self.state["block"] is not None:
            stream.load_state_dict(self.state["block"])
        rows = iter(stream)
        while block := list(itertools.islice(rows, self.block)):
            yield block, self.state["position"]
            self.state = self.state | {
                "block": stream.state_dict(),
                "taken": 0,
                "position": self.state["position"] + len(block),
            }

    def _decode(self, row: dict, position: int) -> Sample | None:
        image = row["image"]
        data = b""
        reader = self.builder.captions
        extra = tuple(row[column] for column in self.builder.columns)
        try:
            if cause := without_value(extra, self.builder.columns, self.builder.tensors):
                raise UnreadableRow(cause)
            data = read_bytes(image)
            captions = usable_captions(captions_of(row, reader.path)) if reader else None
            pixels = decode_pixels(data)
        except UnreadableRow as error:
            self.unreadable[_name(image, data)] = str(error)
            return None
        label = row.get("label")
        number = xxhash.xxh3_64_intdigest(data)
        label = -1 if label is None else int(label)
        return Sample(pixels, number, self.state["pass"], position, label, extra, captions)


def _order_id(row: dict) -> int:
    """What a row is put in order by; from the path where the bytes are elsewhere, so as not to fetch them twice."""
    image = row["image"] or {}
    return xxhash.xxh3_64_intdigest(image.get("bytes") or (image.get("path") or "").encode())


def _name(image: dict | None, data: bytes) -> str:
    if image and image.get("path"):
        return image["path"]
    return f"image of {len(data)} bytes with XXH3 {xxhash.xxh3_64_hexdigest(data)}"
