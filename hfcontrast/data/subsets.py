"""Subsets of rows: drawn by a keyed hash of each row's number, and of each class in proportion where labels are known.

A fixed step through the rows meets the order of their labels: of two classes that come in turn, every second row is of one class.
"""

import numpy as np

from hfcontrast.data.keyed_random import hash_numbers

# One a purpose, so that the rows of one subset say nothing about those of another.
HELD_OUT, LIMIT, STATISTICS = range(3)
_SEED = 0x726F7773


def drawn_rows(
    numbers: np.ndarray, count: int, purpose: int, labels: np.ndarray | None = None, every_class: bool = False
) -> np.ndarray:
    """Some of the rows, always the same ones; fewer of them are some of more.

    Args:
        numbers: (N,) the rows' numbers in their split, by which they are drawn.
        count: How many are drawn.
        purpose: What for: ``HELD_OUT``, ``LIMIT`` or ``STATISTICS``.
        labels: (N,) class numbers: each class is drawn from in proportion to its rows (as the method of Sainte-Laguë shares out seats).
            -1 is a class of its own.
        every_class: Whether each class gives a row before one gives a second in proportion, as far as ``count`` allows.

    Returns:
        Positions in ``numbers``, ascending, (min(count, N),) int64.
    """
    hashes = hash_numbers(_SEED, purpose, np.asarray(numbers, dtype=np.int64))
    if labels is None:
        labels = np.zeros(len(numbers), dtype=np.int64)
    by_class = np.lexsort((hashes, labels))
    _, first, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    rank = np.arange(len(by_class)) - np.repeat(first, sizes)
    share = (rank + (0.0 if every_class else 0.5)) / np.repeat(sizes, sizes)
    return np.sort(by_class[np.lexsort((hashes[by_class], share))[:count]])
