"""What a loop's loader says: how long an epoch is, and which dataset is to be told the epoch."""

import math
from typing import Any


def steps_per_epoch(loader: Any, accumulation: int) -> int | None:
    """Optimizer steps in a pass over a loader; the last one may have fewer micro-batches. None where the loader has no length.

    Args:
        loader: A loader of micro-batches.
        accumulation: Micro-batches of one step.
    """
    try:
        return max(math.ceil(len(loader) / accumulation), 1)
    except TypeError:  # of an iterable dataset
        return None


def set_epoch(loader: Any, epoch: int) -> None:
    """Tells the dataset of a loader the epoch, where it has a ``set_epoch``."""
    dataset = getattr(loader, "dataset", None)
    if hasattr(dataset, "set_epoch"):
        dataset.set_epoch(epoch)
