"""Splits, slices and sums of map-style sets, as ``load_dataset`` understands them, and map-style sets as streams."""

from collections.abc import Callable, Sequence
from functools import partial

import datasets
from datasets import Dataset, ReadInstruction

from hfcontrast.data.fingerprint import fingerprint_of_rows
from hfcontrast.data.row_identities import numbered_in_ranges
from hfcontrast.data.sources.source import Opened, split_names
from hfcontrast.errors import DataError

_STREAM_SHARDS = 16  # of a map-style set that is asked for as a stream


def slice_splits(
    sizes: dict[str, int],
    load: Callable[[str], Dataset],
    split: str,
    streaming: bool,
    path: str,
    place: Callable[[str], str] | None = None,
) -> Opened:
    """What an expression such as ``train``, ``train[:50%]`` or ``train+test`` stands for.

    Args:
        sizes: The splits that there are, and how many rows each has.
        load: Gives a split by its name.
        split: The expression.
        streaming: Whether the rows are wanted as a stream.
        path: Of the data set, for messages.
        place: What a split is called among all data, for the identities of its rows; None: by the path.

    Raises:
        DataError: There is no such split, or the expression cannot be understood.
    """
    if unknown := [name for name in split_names(split) if name not in sizes]:
        raise unknown_split(path, unknown[0], list(sizes))
    try:
        parts = ReadInstruction.from_spec(split).to_absolute(sizes)
    except (ValueError, AssertionError) as error:  # the latter from datasets' own checks of the bounds
        raise DataError(f"split {split!r} cannot be understood: {error}; an example is train[:50%]") from error
    chosen: list[Dataset] = []
    ranges: list[tuple[str, int, int]] = []
    for part in parts:
        dataset = load(part.splitname)
        first, last = part.from_ or 0, len(dataset) if part.to is None else part.to
        name = f"{path}, {part.splitname}" if place is None else place(part.splitname)
        ranges.append((name, first, last))
        chosen.append(dataset if (first, last) == (0, len(dataset)) else dataset.select(range(first, last)))
    dataset = chosen[0] if len(chosen) == 1 else datasets.concatenate_datasets(chosen)
    rows = len(dataset)
    row_ids = partial(numbered_in_ranges, ranges)  # no closure: workers that are spawned get the rows by pickle
    if not streaming or not rows:
        return Opened(dataset, [rows], None, row_ids=row_ids)
    shards = min(_STREAM_SHARDS, rows)
    lengths = [rows // shards + (number < rows % shards) for number in range(shards)]  # as datasets cuts them
    stream = dataset.to_iterable_dataset(num_shards=shards)
    return Opened(stream, lengths, fingerprint_of_rows(dataset), row_ids=row_ids)


def unknown_split(path: str, name: str, names: Sequence[str], told: str = "") -> DataError:
    """The error of a split that is not there.

    Args:
        path: Of the data set.
        name: The split that is asked for.
        names: The splits that there are.
        told: Which files or folders these are, in words.
    """
    first = names[0] if names else "NAME"
    return DataError(
        f"{path} has no split {name!r}; there {'is' if len(names) == 1 else 'are'} {', '.join(names) or 'none'}{f' ({told})' * bool(told)}: "
        f"set data.split={first} (of embed: --split {first}; of evaluate: --split, or --train-split for the train rows)"
    )
