"""What a method needs of every row, its labels or captions, is looked for before anything expensive is done."""

from collections.abc import Iterator
from itertools import islice

from datasets import IterableDataset

from ..data.sources import Rows
from ..data.stream_errors import reading
from ..errors import DataError
from ..methods.base import Method
from ..methods.contract.arguments import needs_captions, needs_labels
from ..progress import LongTask

_SHARDS, _ROWS = 16, 1024  # of a stream that are looked at, at most


def check_required_rows(rows: Rows, method_class: type[Method], name: str) -> None:
    """Refuses rows without the labels or captions that a method learns from.

    Args:
        rows: The rows that are trained on.
        method_class: The method.
        name: What recipes call it.

    Raises:
        DataError: There are none, or all of them are -1 or empty; of a stream, in the rows that are looked at, up to the first one with a label.
    """
    if needs_labels(method_class):
        none = ("has only labels below 0, which stand for none" if rows.labeled else "has none") * (
            not rows.has_labels()
        )
        if not none and rows.streaming and (looked_at := _without_label(rows)):
            none = f"has none in the {looked_at:,} rows that were looked at"
        if none:
            raise DataError(
                f"method '{name}' learns from labels, and {rows.description} {none}: name their column in "
                "data.label_column, or take a method that needs none"
            )
    if needs_captions(method_class) and not rows.has_captions():
        raise DataError(
            f"method '{name}' learns from captions, and all those of {rows.description} are missing, empty or not UTF-8: name their "
            "column in data.caption_column, or take a method that needs none"
        )


def _without_label(rows: Rows) -> int:
    """How many rows of a stream were looked at, where none of them has a label; 0 where one has."""
    count = 0
    with LongTask(f"looking for labels in {rows.description}"), reading(rows.description):
        for value in _values(rows.dataset.select_columns(["label"])):
            if rows.labels.number(value) >= 0:
                return 0
            count += 1
    return count


def _values(dataset: IterableDataset) -> Iterator[object]:
    """Labels of the first rows of some shards, the first and the last among them."""
    shards = dataset.num_shards
    looked_at = min(shards, _SHARDS)
    rows = _ROWS // looked_at
    for part in range(looked_at):
        number = (shards - 1) * part // max(looked_at - 1, 1)
        shard = dataset.shard(num_shards=shards, index=number) if shards > 1 else dataset
        yield from (row["label"] for row in islice(shard, rows))
