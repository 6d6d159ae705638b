"""A shard of a stream is the one that datasets gives, however many there are."""

import itertools

import pytest
from datasets import IterableDataset

from hfcontrast.data.shards import Cursor, Shards


def stream(count: int) -> IterableDataset:
    def rows(parts):
        for part in parts:
            yield from ({"number": 10 * part + row} for row in range(3))

    return IterableDataset.from_generator(rows, gen_kwargs={"parts": list(range(count))})


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 11, 16, 17, 50])
def test_every_shard_is_the_one_that_datasets_gives(count):
    shards = Shards(stream(count))
    for number in range(count):
        ours, theirs = shards.open(number), shards.stream.shard(count, number)
        assert ours.num_shards == 1 and [row["number"] for row in ours] == [10 * number + row for row in range(3)]
        for dataset in (ours, theirs):
            list(itertools.islice(dataset, 2))
        assert ours.state_dict() == theirs.state_dict()


def test_opening_shards_splits_no_list_of_all_of_them(monkeypatch):
    """datasets makes as many lists as there are parts: of 400 shards none is taken by cutting 400 parts."""
    parts: list[int] = []
    usual = IterableDataset.shard
    monkeypatch.setattr(IterableDataset, "shard", lambda self, n, i: parts.append(n) or usual(self, n, i))
    cursor = Cursor(Shards(stream(400)), list(range(400)))
    assert len(cursor.take(2000)) == 1200 and max(parts) <= 21
