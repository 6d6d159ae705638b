"""Micro-batches of map-style rows: which rows make up a micro-batch of this process, in the order of the epoch's permutation."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import IterableDataset, get_worker_info

from hfcontrast.data.batches import BatchBuilder
from hfcontrast.data.cache_filling import CacheFilling
from hfcontrast.data.epoch_order import epoch_order
from hfcontrast.data.row_reader import RowReader
from hfcontrast.data.samples import samples_of
from hfcontrast.errors import DataError


@dataclass(frozen=True)
class Division:
    """How a global batch is divided: into equal contiguous micro-batches, each contiguously over the processes.

    Attributes:
        batch_size: Rows of one optimizer step, over all processes.
        accumulation: Micro-batches of one optimizer step.
        process_index: This process.
        num_processes: How many processes train.
    """

    batch_size: int
    accumulation: int
    process_index: int
    num_processes: int

    def __post_init__(self):
        if self.batch_size < 1 or self.accumulation < 1 or not 0 <= self.process_index < self.num_processes:
            raise ValueError(f"{self}: batch_size and accumulation must be 1 or more, process_index valid")
        if self.batch_size % (self.accumulation * self.num_processes):
            raise ValueError(
                f"batch_size {self.batch_size} cannot be divided into {self.accumulation} micro-batches "
                f"for each of {self.num_processes} processes"
            )

    @property
    def rows(self) -> int:
        """Rows of one micro-batch of this process."""
        return self.batch_size // self.accumulation // self.num_processes

    def first_row(self, micro_batch: int, steps_per_epoch: int) -> tuple[int, int]:
        """Epoch and position within it at which a micro-batch of this process begins."""
        step, part = divmod(micro_batch, self.accumulation)
        epoch, step = divmod(step, steps_per_epoch)
        return epoch, step * self.batch_size + (part * self.num_processes + self.process_index) * self.rows


class MapBatches(IterableDataset):
    """The micro-batches of one process from one on, without end; of several workers each makes every n-th.

    Args:
        reader: The rows.
        builder: Makes the batches.
        division: Which rows are this process's.
        epoch_rows: Rows of an epoch; the rest of the permutation is not used.
        start: Number of the first micro-batch.
    """

    def __init__(self, reader: RowReader, builder: BatchBuilder, division: Division, epoch_rows: int, start: int):
        self.reader = reader
        self.builder = builder
        self.division = division
        self.steps_per_epoch = epoch_rows // division.batch_size
        self.start = start
        self._orders: dict[int, torch.Tensor] = {}

    def __iter__(self) -> Iterator[dict]:
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        ahead = self.steps_per_epoch * self.division.accumulation  # an epoch
        with CacheFilling(self.reader, lambda number: self._rows(number)[0], stride, ahead) as filling:
            for micro_batch in itertools.count(self.start + first, stride):
                try:
                    with filling.making(micro_batch):
                        made = self._make(micro_batch)
                except DataError as error:
                    yield {"error": str(error)}
                    return
                yield made

    def _rows(self, micro_batch: int) -> tuple[list[int], int]:
        """The rows of a micro-batch of this process, and their epoch."""
        epoch, position = self.division.first_row(micro_batch, self.steps_per_epoch)
        return self._permutation(epoch)[position : position + self.division.rows].tolist(), epoch

    def _make(self, micro_batch: int) -> dict:
        rows, epoch = self._rows(micro_batch)
        unreadable: dict[str, str] = {}
        samples = samples_of(self.reader, rows, epoch, self.builder.seed, unreadable)
        batch = self.builder.build(samples, len(rows))
        return {"batch": batch, "unreadable": unreadable, "cut_off": self.builder.cut_off}

    def _permutation(self, epoch: int) -> torch.Tensor:
        if (order := self._orders.get(epoch)) is None:
            order = epoch_order(self.builder.seed, epoch, self.reader.num_rows)
            # That of the epoch before is still asked for, by the thread or by what it is ahead of.
            self._orders = {known: kept for known, kept in self._orders.items() if abs(known - epoch) == 1} | {
                epoch: order
            }
        return order
