"""Labeled rows in a shuffled order that all processes agree on, of which each reads its own: what an evaluator trains on.

Where all the pixels fit into ``HELD_BYTES`` every process keeps those of its share. Where they do not, rows that can be read
by their position are read again in every epoch; a stream, which has one order only, is shuffled in a buffer of that size: with
classes that follow each other in the data, and a buffer much smaller than the data, batches then have few classes each.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..nn.distributed import rank, world_size
from .features import join_processes

HELD_BYTES = 1 << 30
_EPOCHS = 1 << 31  # random streams: labels are below, epochs from here on

Row = tuple[Tensor, Tensor]


class ShuffledRows:
    """The rows with labels of a data set that several processes share, epoch after epoch.

    Which rows make up a batch does not depend on the number of processes, as far as each has every n-th row.

    Args:
        batches: Gives this process's share of the data as batches of (pixel_values, labels), always the same. Where it says that it
            is ``too_large`` to keep, it has ``labels()``, those of this process in its order, and ``in_order(positions)``, the
            batches of such rows, unreadable ones left out.
        label_share: Share of each class that is used, in (0, 1], but at least one row of each.
        seed: Decides which rows these are, and the order in every epoch.

    Attributes:
        labels: (N,) of the rows that are used, of all processes.
        classes: (K,) the different ones, ascending.
    """

    def __init__(self, batches: Callable[[], Iterable[Row]], label_share: float = 1.0, seed: int = 0):
        self.batches: Any = batches
        self.seed = seed
        self.readable = getattr(batches, "too_large", False)
        self._held: list[Tensor] | None = None
        own, shape, row_bytes = self._first_look()
        self.shape = next(iter(join_processes(shape).tolist()), [0, 0, 0])  # a process may have no row of its own
        self.buffer = max(HELD_BYTES // world_size() // max(row_bytes, 1), 1)
        self._own = own
        table = torch.stack([torch.full_like(own, rank()), torch.arange(len(own)), own], dim=1)
        owner, position, labels = join_processes(table).unbind(dim=1)
        chosen = chosen_rows(labels, label_share, seed)
        self._owner, self._position, self.labels = owner[chosen], position[chosen], labels[chosen]
        self.classes = self.labels.unique()

    def _first_look(self) -> tuple[Tensor, Tensor, int]:
        """This process's labels (n,), the shape of a row (1, 3), or (0, 3) without a row, and its bytes; keeps what can be kept."""
        if self.readable:
            first = next((pixels for pixels, _ in self.batches()), torch.zeros(0, 0, 0, 0))
            shape = torch.tensor([first.shape[1:]]) if len(first) else torch.zeros(0, 3, dtype=torch.long)
            return self.batches.labels(), shape, 0
        held: list[Tensor] = []
        labels, size = [torch.zeros(0, dtype=torch.long)], 0
        shape, row_bytes = torch.zeros(0, 3, dtype=torch.long), 0
        for pixels, targets in self.batches():
            labels.append(targets.cpu())
            size += pixels.nbytes
            shape, row_bytes = torch.tensor([pixels.shape[1:]]), pixels.nbytes // max(len(pixels), 1)
            if size <= HELD_BYTES:
                held.extend(pixels)
            else:
                held.clear()
        if int(join_processes(torch.tensor([size])).sum()) <= HELD_BYTES:
            self._held = held
        return torch.cat(labels), shape, row_bytes

    def steps(self, batch_size: int) -> int:
        """Batches of one epoch."""
        return math.ceil(len(self.labels) / batch_size)

    def epoch(self, number: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """All rows once, in batches of nearly equal size over all processes together.

        Args:
            number: Which epoch.
            batch_size: Rows of a batch of all processes, at most.

        Yields:
            As often on every process: this process's rows of the batch, (n, C, H, W); their labels (n,); and for each row three
            random numbers in [0, 1), (n, 3). There may be none.
        """
        generator = _generator(self.seed, _EPOCHS + number)
        order = torch.randperm(len(self.labels), generator=generator)
        draws = torch.rand(len(order), 3, generator=generator)
        parts = [part[self._owner[part] == rank()] for part in order.tensor_split(self.steps(batch_size))]
        rows = self._read(self._position[torch.cat(parts)], generator)
        for part in parts:
            found = list(islice(rows, len(part)))
            pixels = torch.stack([row for row, _ in found]) if found else torch.zeros(0, *self.shape)
            labels = torch.tensor([int(label) for _, label in found], dtype=torch.long)
            yield pixels, labels, draws[part][: len(found)]

    def _read(self, positions: Tensor, generator: torch.Generator) -> Iterator[Row]:
        """This process's rows at some positions: in their order, of a stream in one of its own."""
        if self._held is not None:
            return ((self._held[i], self._own[i]) for i in positions.tolist())
        if self.readable:
            return _single(self.batches.in_order(positions.tolist()))
        wanted = set(positions.tolist())
        rows = (row for i, row in enumerate(_single(self.batches())) if i in wanted)
        return shuffled(rows, self.buffer, generator)


def chosen_rows(labels: Tensor, share: float, seed: int) -> Tensor:
    """Positions of the rows that a share of the labels leaves, ascending; those without a label (negative) are never among them.

    A smaller share of the same seed takes some of the rows of a larger one.

    Args:
        labels: (N,).
        share: Of each class; at least one row of each is taken.
        seed: Which rows.
    """
    chosen = [torch.zeros(0, dtype=torch.long)]
    for label in labels[labels >= 0].unique().tolist():
        rows = (labels == label).nonzero().flatten()
        order = torch.randperm(len(rows), generator=_generator(seed, label))
        chosen.append(rows[order[: max(round(share * len(rows)), 1)]])
    return torch.cat(chosen).sort().values


def shuffled(rows: Iterable[Row], size: int, generator: torch.Generator) -> Iterator[Row]:
    """Rows in a random order, as far as a buffer of so many allows."""
    buffer: list[Row] = []
    for pixels, label in rows:
        row = (pixels.clone(), label)  # a view would keep its whole batch in memory
        if len(buffer) < size:
            buffer.append(row)
            continue
        place = int(torch.randint(size, (), generator=generator))
        yield buffer[place]
        buffer[place] = row
    for place in torch.randperm(len(buffer), generator=generator).tolist():
        yield buffer[place]


def _single(batches: Iterable[Row]) -> Iterator[Row]:
    for pixels, labels in batches:
        yield from zip(pixels, labels)


def _generator(seed: int, stream: int) -> torch.Generator:
    """A generator of its own for each purpose: torch's takes 32 bits of a seed, so the two are mixed."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, stream)).generate_state(1)[0]))
