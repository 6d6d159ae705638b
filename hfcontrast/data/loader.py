"""The training loader: endless, prefetching, exactly resumable micro-batches of crops for one process."""

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import multiprocessing
from torch.utils.data import DataLoader, IterableDataset

from hfcontrast.data.batches import BatchBuilder
from hfcontrast.data.cache import about_cache, allowed_bytes, cpus_of_this_process, estimated_bytes, make_cache
from hfcontrast.data.cache_filling import fill_cache
from hfcontrast.data.captions import CaptionReader
from hfcontrast.data.epoch_order import rows_of_epoch
from hfcontrast.data.image_reader import detail_of, largest_of
from hfcontrast.data.map_batches import Division, MapBatches
from hfcontrast.data.row_crops import crops_of_rows
from hfcontrast.data.row_reader import RowReader
from hfcontrast.data.shards import Shards
from hfcontrast.data.sources import Rows
from hfcontrast.data.stream_batches import FRESH, Share, StreamBatches
from hfcontrast.data.unreadable import UnreadableRows
from hfcontrast.errors import CheckpointError, DataError
from hfcontrast.signals import held_back, ignore
from hfcontrast.view import View, check_views

_KNOWN_BY = "shard and offset"  # how the states of a stream name rows


class TrainLoader:
    """Yields the micro-batches of one process, across epochs, without end.

    A global batch is cut into ``accumulation`` equal contiguous parts, each split contiguously over the processes: two
    processes together see exactly the batches of one. The views of a sample depend on seed, epoch and sample alone,
    not on workers or processes. Of a stream the same holds for each row, but each process reads shards of its own, so which rows share a
    batch depends on how many there are.

    A micro-batch is a dict: for each view key uint8 (B, V, H, W, 3), under ``{key}_color`` float32 (B, V, 14) (both
    for ``ColorAugmentation``), ``index`` (B,) int64 the position in the data set (of a stream whose shards' lengths are not
    known: the shard's number times 2**32 and the position in it), ``labels`` (B,) int64 where the rows have labels,
    ``input_ids`` and ``attention_mask`` (B, T) where captions are read, and the rows' further columns as lists, or as
    tensors where the method takes them.

    Args:
        rows: What to train on.
        views: The views of the method.
        batch_size: Rows of one optimizer step over all processes.
        accumulation: Micro-batches of one optimizer step.
        seed: What every order and view is drawn from.
        process_index: This process.
        num_processes: How many processes train.
        workers: Worker processes, or ``auto``: by the cores of this process, the device and the cache.
        cache: Whether decoded images are kept in memory (map-style rows only), or ``auto``: where they take less than
            a quarter of the available memory.
        cache_size: Side of a square of as many pixels as decoded images have at most, or ``auto``, by the views; None: as they are.
        max_unreadable: The share of unreadable images that stops the run.
        shuffle_block: Rows of a stream that are shuffled among each other.
        epoch_rows: Rows of an epoch; needed for a stream of unknown size.
        device_type: The type of the training device: for ``cuda``, batches are pinned.
        captions: Chooses and tokenizes the captions, for a method that reads them; a row without a usable one counts as
            unreadable.
        without: Keys of views that batches do not have (see ``BatchBuilder``).

    Attributes:
        completed: Completes each batch in this process, after it is made; None leaves it as it is.
        steps_per_epoch: Optimizer steps in an epoch; an incomplete last batch is dropped.
        cut_off: Captions so far that were longer than the tokens that they may have.
        workers: How many worker processes there are.
        cached: Whether decoded images are kept in memory, each from when it is first needed on.
        largest: The side that ``cache_size`` has come to.
        about_cache: One line on what is kept and how much memory that takes, or why nothing is; None for a stream.

    Raises:
        ValueError: The batch cannot be divided, or a setting is out of its range.
        DataError: The batch is larger than the data, or the size of a stream is unknown.
    """

    def __init__(
        self,
        rows: Rows,
        views: tuple[View, ...],
        *,
        batch_size: int,
        accumulation: int = 1,
        seed: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
        workers: int | str = "auto",
        cache: bool | str = "auto",
        cache_size: int | str | None = None,
        max_unreadable: float = 0.01,
        shuffle_block: int = 1024,
        epoch_rows: int | None = None,
        device_type: str = "cpu",
        captions: CaptionReader | None = None,
        without: frozenset[str] = frozenset(),
    ):
        check_views(tuple(views))
        if cache not in (True, False, "auto") or (workers != "auto" and (isinstance(workers, str) or workers < 0)):
            raise ValueError(f"cache is {cache!r}, expected True, False or auto; workers {workers!r}, a number or auto")
        self.division = Division(batch_size, accumulation, process_index, num_processes)
        self.rows = rows
        self.epoch_rows = rows_of_epoch(rows, batch_size, epoch_rows)
        self.steps_per_epoch = self.epoch_rows // batch_size
        num_rows = None if rows.streaming else rows.num_rows
        # Those of a stream are compared with the rows that the training has seen, and of chosen rows names are other ones.
        known = None if rows.streaming or rows.chosen is not None else rows.unreadable
        self._unreadable = UnreadableRows(rows.description, max_unreadable, num_rows, num_processes, known)
        self.cut_off = 0
        self.cached = False
        self.about_cache: str | None = None
        self._pinned = device_type == "cuda"
        self._states: list[dict] = []
        self.completed: Callable[[dict], dict] | None = None
        read = (rows.labeled, rows.columns, captions, rows.tensors, rows.labels)
        self._builder = BatchBuilder(tuple(views), seed, *read, without, rows.reader.channels)
        self.largest = (
            cache_size if isinstance(cache_size, int) else largest_of(views) if cache_size == "auto" else None
        )
        self._images = replace(rows.reader, detail=detail_of(views), largest=self.largest)
        self._next = 0  # micro-batch
        self._block = shuffle_block
        if rows.streaming:
            self._shards = Shards(rows.dataset, rows.starts, rows.shard_files)
            self._share = Share(process_index, num_processes)
            mine = len(self._share.shards(self._shards.count))
            self.workers = min(self._choose_workers(workers, device_type), mine)
            self._states = [dict(FRESH) for _ in range(max(1, self.workers))]
        else:
            self._reader = RowReader(
                rows.dataset, rows.columns, captions.path if captions else None, rows.tensors, self._images, rows.labels
            )
            self._make_cache(cache, workers, device_type)

    def _choose_workers(self, workers: int | str, device_type: str) -> int:
        if isinstance(workers, int):
            return workers
        cpus = cpus_of_this_process()
        if device_type == "cpu":  # the model takes the cores
            return int(self.rows.streaming) if cpus < 4 else 0 if self.cached else cpus // 4
        return max(1, min(cpus - 1, 4 if self.cached else 16))

    def _make_cache(self, cache: bool | str, workers: int | str, device_type: str) -> None:
        """Decides on the cache and on the workers, whose number depends on it."""
        rows, allowed = self._reader.num_rows, allowed_bytes(asked_for=cache is True)
        estimate = None if cache is False else estimated_bytes(self._reader.images, self._images, rows)
        self.cached = cache is True or (estimate is not None and estimate < allowed)
        self.workers = self._choose_workers(workers, device_type)
        if self.cached:
            # Forked workers share the memory of this process anyway; others are sent a handle of it.
            pickled = self.workers > 0 and multiprocessing.get_start_method() != "fork"
            self._reader.cache = make_cache(rows, estimate or 0, allowed, self.workers, pickled, self._images.channels)
        if self.cached and self._reader.cache is None:
            self.cached = False
            self.workers = self._choose_workers(workers, device_type)
        self.about_cache = about_cache(estimate, allowed, self.cached, cache is True, self.largest)

    def fill_cache(self, time_limit: float | None = None) -> None:
        """Decodes all images that are to be kept, before they are needed: so that nothing that is measured later decodes them.

        Args:
            time_limit: Seconds after which the rest is left until it is needed; None: it may take what it takes.
        """
        if self.cached:
            fill_cache(self._reader, self.rows.description, time_limit)

    def crops(self, rows: list[int], epoch: int, key: str) -> dict | None:
        """The crops under one key that some rows have in an epoch (see ``crops_of_rows``)."""
        return crops_of_rows(self._reader, self._builder, rows, epoch, key)

    @property
    def unreadable(self) -> dict[str, str]:
        """The rows that could not be read so far, each with the cause; those of other processes since ``count_together``."""
        return self._unreadable.causes

    def count_together(self, gather: Callable[[list], list]) -> None:
        """Counts the unreadable rows over all processes, which call this together.

        Args:
            gather: Puts a list of every process behind each other, on every process.

        Raises:
            DataError: They are too many, on every process.
        """
        self._unreadable.compare(gather([self._unreadable.report()]))

    def __iter__(self) -> Iterator[dict]:
        """Continues after the last micro-batch that was yielded or loaded."""
        return self._batches()

    def iter_from(self, step: int) -> Generator[dict]:
        """Continues at an optimizer step of the run.

        Raises:
            ValueError: The rows are a stream, which cannot be entered in the middle without its state.
        """
        if self.rows.streaming and step != self._next // self.division.accumulation:
            raise ValueError("a stream is resumed only from a saved state: use load_state_dict")
        if not self.rows.streaming:
            self._next = step * self.division.accumulation
        return self._batches()

    def state_dict(self) -> dict:
        """The state after the last yielded micro-batch of this process, in plain numbers and texts."""
        state = {"micro_batch": self._next, "unreadable": dict(self.unreadable), "cut_off": self.cut_off}
        if self.rows.streaming:
            state |= {"workers": len(self._states), "num_processes": self.division.num_processes}
            state |= {"block": self._block, "states": list(self._states), "rows_known_by": _KNOWN_BY}
        return state

    def load_state_dict(self, state: dict) -> None:
        """Restores a state that ``state_dict`` gave, for the next ``iter``.

        A stream is read with as many workers as when the state was saved.

        Raises:
            CheckpointError: The state is that of another kind of rows, number of processes or block size.
        """
        if self.rows.streaming != ("states" in state):
            raise CheckpointError("the loader's state was saved with data.streaming switched the other way")
        if self.rows.streaming:
            for name, now in (("num_processes", self.division.num_processes), ("block", self._block)):
                if state[name] != now:
                    raise CheckpointError(
                        f"a stream is resumed only as it was begun: {name} was {state[name]}, is {now}"
                    )
            if state.get("rows_known_by") != _KNOWN_BY:
                raise CheckpointError(
                    "this checkpoint of a stream was saved by an earlier version of hfcontrast, which numbered rows by worker; "
                    "its order cannot be continued: finish it with that version, or start over in another train.output"
                )
            self._states = list(state["states"])
            self.workers = len(self._states) if len(self._states) > 1 else min(self.workers, 1)
        self._next = state["micro_batch"]
        self._unreadable.causes = dict(state["unreadable"]) | self._unreadable.causes
        self.cut_off = state.get("cut_off", 0)

    def _batches(self) -> Generator[dict]:
        with held_back():  # until the workers ignore them
            items = iter(self._data_loader())
        for item in items:
            if item is None:
                continue
            if "error" in item:
                raise DataError(item["error"])
            if "state" in item:
                self._states[item["worker"]] = json.loads(item["state"])
            seen = sum(state["seen"] for state in self._states)
            self._unreadable.add(item["unreadable"], seen, all(state["pass"] > 0 for state in self._states))
            self.cut_off += item["cut_off"]
            self._next += 1
            yield item["batch"] if self.completed is None else self.completed(item["batch"])

    def _data_loader(self) -> DataLoader:
        dataset: IterableDataset
        if self.rows.streaming:
            next_worker = self._next % len(self._states)
            dataset = StreamBatches(
                self._shards,
                self._builder,
                self._images,
                self._share,
                self.division.rows,
                self._block,
                list(self._states),
                next_worker,
                self._unreadable.allowed,
            )
        else:
            dataset = MapBatches(self._reader, self._builder, self.division, self.epoch_rows, self._next)
        return DataLoader(
            dataset,
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            worker_init_fn=_ignore_signals,
            pin_memory=self._pinned,
            generator=torch.Generator().manual_seed(0),  # its own: the global one would lose a number
        )


def _ignore_signals(_worker: int) -> None:
    ignore()


def _as_it_is(item: Any) -> Any:
    return item
