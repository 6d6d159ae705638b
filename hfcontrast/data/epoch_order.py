"""The order of the rows of each epoch, and which rows a training has read by it."""

import numpy as np
import torch

from hfcontrast.data.keyed_random import uniforms
from hfcontrast.data.rows import Rows
from hfcontrast.errors import DataError

_ORDER = 2**32  # a view number that no crop has
_MOST_EPOCHS = 200  # that are looked through for the rows that were read


def epoch_order(seed: int, epoch: int, rows: int) -> torch.Tensor:
    """The permutation of the rows of one epoch, (rows,).

    Args:
        seed: Of the run.
        epoch: From 0.
        rows: How many rows there are.
    """
    drawn = int(uniforms(seed, epoch, np.zeros(1, np.uint64), _ORDER, 1)[0, 0] * 2**53)
    return torch.randperm(rows, generator=torch.Generator().manual_seed(drawn))


def rows_read(seed: int, rows: int, steps: int, steps_per_epoch: int, batch_size: int) -> np.ndarray | None:
    """Which rows of a map-style set the first steps of a training have read: (rows,) truth values; None where that is too much to look through.

    Args:
        seed: Of the run.
        rows: How many rows there are.
        steps: Optimizer steps.
        steps_per_epoch: Those of an epoch, which ends after its last whole batch.
        batch_size: Rows of a step.
    """
    read = np.zeros(rows, dtype=bool)
    epochs, rest = divmod(steps, steps_per_epoch)
    for epoch in range(epochs + bool(rest)):
        if epoch == _MOST_EPOCHS:
            return None
        taken = (steps_per_epoch if epoch < epochs else rest) * batch_size
        read[epoch_order(seed, epoch, rows)[:taken].numpy()] = True
        if read.all():
            break
    return read


def rows_of_epoch(rows: Rows, batch_size: int, epoch_rows: int | None) -> int:
    """How many rows an epoch has.

    Args:
        rows: The rows.
        batch_size: Of an optimizer step.
        epoch_rows: As it is asked for; None: all rows.

    Raises:
        DataError: There are not so many, or their number is unknown, or they are fewer than a batch.
    """
    size = rows.num_rows
    if size is None and epoch_rows is None:
        raise DataError(f"the size of {rows.description} is unknown: set data.epoch_rows, the rows of an epoch")
    if not rows.streaming and epoch_rows is not None and not 1 <= epoch_rows <= size:
        raise DataError(f"epoch_rows is {epoch_rows}, but {rows.description} has {size} rows")
    epoch_rows = epoch_rows or size
    if batch_size > epoch_rows:
        raise DataError(
            f"a batch larger than the data: batch_size is {batch_size}, {rows.description} has {epoch_rows} rows"
        )
    return epoch_rows
