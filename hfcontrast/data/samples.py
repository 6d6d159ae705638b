"""The samples of some rows; an unreadable row is replaced by one that is drawn, so that every worker and every run finds the same."""

from collections.abc import Iterator

import numpy as np

from hfcontrast.data.batches import Sample
from hfcontrast.data.decode import UnreadableRow
from hfcontrast.data.keyed_random import uniforms
from hfcontrast.data.row_reader import RowReader
from hfcontrast.errors import DataError

_REPLACEMENT = 2**32  # a view number that no crop has: its random numbers choose rows to stand in for unreadable ones
_ATTEMPTS = 100


def samples_of(
    reader: RowReader, rows: list[int], epoch: int, seed: int, unreadable: dict[str, str]
) -> Iterator[Sample]:
    """A sample for each row.

    Args:
        reader: The rows.
        rows: Their positions.
        epoch: The epoch.
        seed: Of the run.
        unreadable: Gets the rows that cannot be read, by name, each with the cause.

    Raises:
        DataError: None of the rows that were drawn to stand in for one can be read.
    """
    for row, sample, name in reader.read(rows, epoch):
        if isinstance(sample, UnreadableRow):
            unreadable[name] = str(sample)
            sample = _replacement(reader, row, epoch, seed, unreadable)
        yield sample


def _replacement(reader: RowReader, row: int, epoch: int, seed: int, unreadable: dict[str, str]) -> Sample:
    draws = uniforms(seed, epoch, np.array([row], np.uint64), _REPLACEMENT, _ATTEMPTS)[0]
    for draw in draws:
        _, sample, name = next(reader.read([int(draw * reader.num_rows)], epoch))
        if isinstance(sample, Sample):
            return sample
        unreadable[name] = str(sample)
    named = "; ".join(f"{name}: {cause}" for name, cause in list(unreadable.items())[:5])
    raise DataError(f"{_ATTEMPTS} rows drawn to replace unreadable ones could not be read either, e.g. {named}")
