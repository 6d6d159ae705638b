"""Splits, slices and sums of map-style sets, as ``load_dataset`` understands them, and map-style sets as streams."""

from collections.abc import Callable

import datasets
from datasets import Dataset, ReadInstruction

from hfcontrast.data.fingerprint import fingerprint_of_rows
from hfcontrast.data.sources.source import Opened
from hfcontrast.errors import DataError

_STREAM_SHARDS = 16  # of a map-style set that is asked for as a stream


def slice_splits(
    sizes: dict[str, int], load: Callable[[str], Dataset], split: str, streaming: bool, path: str
) -> Opened:
    """What an expression such as ``train``, ``train[:50%]`` or ``train+test`` stands for.

    Args:
        sizes: The splits that there are, and how many rows each has.
        load: Gives a split by its name.
        split: The expression.
        streaming: Whether the rows are wanted as a stream.
        path: Of the data set, for messages.

    Raises:
        DataError: There is no such split, or the expression cannot be understood.
    """
    names = [part.split("[")[0].strip() for part in split.split("+")]
    if unknown := [name for name in names if name not in sizes]:
        raise DataError(f"{path} has no split {unknown[0]!r}; there are {', '.join(sizes)}")
    try:
        parts = ReadInstruction.from_spec(split).to_absolute(sizes)
    except (ValueError, AssertionError) as error:  # the latter from datasets' own checks of the bounds
        raise DataError(f"split {split!r} cannot be understood: {error}; an example is train[:50%]") from error
    chosen = []
    for part in parts:
        dataset = load(part.splitname)
        first, last = part.from_ or 0, len(dataset) if part.to is None else part.to
        chosen.append(dataset if (first, last) == (0, len(dataset)) else dataset.select(range(first, last)))
    dataset = chosen[0] if len(chosen) == 1 else datasets.concatenate_datasets(chosen)
    rows = len(dataset)
    if not streaming or not rows:
        return Opened(dataset, [rows], None)
    shards = min(_STREAM_SHARDS, rows)
    lengths = [rows // shards + (number < rows % shards) for number in range(shards)]  # as datasets cuts them
    return Opened(dataset.to_iterable_dataset(num_shards=shards), lengths, fingerprint_of_rows(dataset))
