"""Shards of a stream, each read by itself, so that the index of a row does not depend on the number of readers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from datasets import IterableDataset

from hfcontrast.data.shown import shown

_AT_ONCE = 64  # rows that are taken from a shard together


class Placed(NamedTuple):
    """A row and where it stands.

    Attributes:
        row: The row.
        shard: Number of its shard in the data set.
        offset: Its place in the shard.
        index: What the row is known by, below 2**63: its place in the data set, where all shards' lengths are known.
    """

    row: dict[str, Any]
    shard: int
    offset: int
    index: int  # type: ignore[assignment]  # of a tuple, a method


@dataclass(frozen=True)
class Shards:
    """A stream as a list of shards.

    Args:
        stream: The rows.
        starts: For each shard how many rows are before it; None where that is not known.
        files: The file of each shard; empty where that is not known.
    """

    stream: IterableDataset
    starts: tuple[int, ...] | None = None
    files: tuple[str, ...] = ()

    @cached_property
    def count(self) -> int:
        """How many shards there are."""
        return self.stream.num_shards

    @cached_property
    def numbered(self) -> bool:
        """Whether ``index`` is the place in the data set."""
        return self.count == 1 or (self.starts is not None and len(self.starts) == self.count)

    def open(self, number: int) -> IterableDataset:
        """One shard.

        Taking one of n shards costs ``datasets`` time in proportion to n, so it is taken of a group of them, and the groups are kept.
        """
        groups = math.isqrt(self.count)
        size, larger = divmod(self.count, groups)  # as datasets cuts them: the first ones have one more
        group, place = divmod(number, size + 1)
        if group >= larger:
            group, place = divmod(number - larger, size)
        if group not in self._groups:
            self._groups[group] = self.stream.shard(groups, group)
        return self._groups[group].shard(size + (group < larger), place)

    @cached_property
    def _groups(self) -> dict[int, IterableDataset]:
        return {}

    def index(self, shard: int, offset: int) -> int:
        """What a row is known by; see ``Placed``."""
        if self.count == 1:
            return offset
        return self.starts[shard] + offset if self.numbered else shard << 32 | offset

    def name(self, placed: Placed) -> str:
        """How a row is named in messages."""
        path = _path_of(placed.row.get("image"))
        place = f"row {placed.index}" if self.numbered else f"row {placed.offset} of shard {placed.shard}"
        return f"{place} ({shown(path)})" if path else place


class Cursor:
    """Reads the rows of some shards one after the other, and can resume from the state of another reader.

    Args:
        shards: All shards.
        order: The numbers of those to read.
        position: What ``position`` of another cursor over the same order was; None begins.
    """

    def __init__(self, shards: Shards, order: list[int], position: dict[str, Any] | None = None):
        self._shards = shards
        self._order = order
        start = position or {"turn": 0, "offset": 0, "skip": 0, "shard": None}
        self._turn, self._offset, self._skip, self._state = (start[key] for key in ("turn", "offset", "skip", "shard"))
        self._open: IterableDataset | None = None
        self._batches: Iterator[dict[str, list]] = iter(())
        self._batch: list[dict[str, Any]] = []

    @property
    def position(self) -> dict[str, Any]:
        """Where it stands, in plain numbers and texts."""
        return {"turn": self._turn, "offset": self._offset, "skip": self._skip, "shard": self._state}

    @property
    def shard(self) -> int | None:
        """The shard that is read; None at the end."""
        return self._order[self._turn] if self._turn < len(self._order) else None

    def take(self, count: int) -> list[Placed]:
        """The next rows, fewer only at the end."""
        rows: list[Placed] = []
        while len(rows) < count and (self._batch or self._read()):
            shard, first = self._order[self._turn], self._offset + self._skip
            part = self._batch[self._skip : self._skip + count - len(rows)]
            for offset, row in enumerate(part, first):
                rows.append(Placed(row, shard, offset, self._shards.index(shard, offset)))
            self._skip += len(part)
            if self._skip >= len(self._batch):
                self._offset, self._skip = self._offset + len(self._batch), 0
                self._batch, self._state = [], self._open.state_dict()
        return rows

    def _read(self) -> bool:
        """Reads some rows of this shard or of the next one that has any; False where no row is left."""
        while self._turn < len(self._order):
            if self._open is None:
                self._open = self._shards.open(self._order[self._turn])
                if self._state is not None:
                    self._open.load_state_dict(self._state)
                self._batches = self._open.iter(_AT_ONCE)
            if batch := next(self._batches, None):
                names = list(batch)
                self._batch = [dict(zip(names, values)) for values in zip(*batch.values(), strict=True)]
                return True
            self._turn, self._offset, self._skip, self._state, self._open = self._turn + 1, 0, 0, None, None
        return False


def _path_of(image: Any) -> str | None:
    return image.get("path") if isinstance(image, dict) else None
