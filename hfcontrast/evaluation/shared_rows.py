"""Train rows that are test rows as well: as train features they would know the answers."""

import numpy as np

from ..data.sources import Rows
from .protocol import NothingToEvaluate


def without_test_rows(train: Rows, test: Rows) -> tuple[Rows, int]:
    """The train rows that are no test rows, and how many others there are.

    Rows of one data set are known under all its splits, slices and sums, files by their paths. Where identities are not known (a stream
    of unknown length, rows that were opened by the caller, copies of a file) equal images are left out later, as near-duplicates.

    Args:
        train: The train rows.
        test: All test rows, whatever their number is limited to.

    Raises:
        NothingToEvaluate: No train row is left.
    """
    own, others = train.identities(), test.identities()
    if own is None or others is None:
        if _same_stream(train, test):
            raise NothingToEvaluate(_none_left(train, test))
        return train, 0
    shared = np.isin(own, others)
    count = int(shared.sum())
    if not count:
        return train, 0
    if count == len(own):
        raise NothingToEvaluate(_none_left(train, test))
    if train.streaming:
        return train.where(lambda number: not shared[number]), count
    return train.select(np.flatnonzero(~shared)), count


def _same_stream(train: Rows, test: Rows) -> bool:
    """Whether all files of a train stream are files of the test stream."""
    whole = all(rows.chosen is None and not rows.conditions for rows in (train, test))
    return whole and bool(train.shard_files) and set(train.shard_files) <= set(test.shard_files)


def _none_left(train: Rows, test: Rows) -> str:
    if train.description == test.description:
        return (
            f"{test.description} cannot be evaluated on by classifiers that are fitted to the same rows: choose another split to evaluate on, "
            "or other train rows"
        )
    return (
        f"all rows of {train.description} are rows of {test.description} as well, so no classifier can be fitted to them: choose another split "
        "to evaluate on, or other train rows"
    )
