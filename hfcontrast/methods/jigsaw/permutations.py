"""The set of permutations of the jigsaw puzzle, with large Hamming distances between them."""

import functools
import itertools

import numpy as np
import torch
from torch import Tensor

from ...nn.patches.squares import CELLS

LARGEST_SET = 10_000  # more take minutes to find, and have not been useful


def permutation_set(count: int) -> Tensor:
    """Permutations of nine with large Hamming distances (Noroozi and Favaro, 2016, arXiv:1603.09246, algorithm 1).

    A greedy selection that starts with the identity: the next permutation, of all 362,880, has the largest sum of Hamming distances to
    those selected before; ties are broken in a fixed order. The result depends only on ``count``.

    Args:
        count: Number of permutations, from 1 to 10,000.

    Returns:
        (count, 9) int64, no two equal.

    Raises:
        ValueError: The number is out of range.
    """
    if not 1 <= count <= LARGEST_SET:
        raise ValueError(f"{count} permutations requested, expected a number from 1 to {LARGEST_SET}")
    return torch.from_numpy(_permutation_set(count).copy())


@functools.lru_cache(maxsize=4)
def _permutation_set(count: int) -> np.ndarray:
    """The set as an array. A permutation is one of 126 choices of four cells, one of their 24 orders, one of 120 of the other five."""
    first = np.array(list(itertools.combinations(range(CELLS), 4)))
    rest = np.array([[cell for cell in range(CELLS) if cell not in four] for four in first.tolist()])
    heads = first[:, list(itertools.permutations(range(4)))]  # (126, 24, 4)
    tails = rest[:, list(itertools.permutations(range(5)))]  # (126, 120, 5)
    met = np.zeros((CELLS, CELLS), dtype=np.int32)  # how often each position has had each cell
    taken = np.zeros((len(first), heads.shape[1], tails.shape[1]), dtype=bool)
    orders = np.empty((count, CELLS), dtype=np.int64)
    for number in range(count):
        head_sums = sum(row[cells] for row, cells in zip(met[:4], np.moveaxis(heads, 2, 0)))
        tail_sums = sum(row[cells] for row, cells in zip(met[4:], np.moveaxis(tails, 2, 0)))
        group, head, tail = _least(head_sums, tail_sums, taken)
        taken[group, head, tail] = True
        orders[number] = np.concatenate([heads[group, head], tails[group, tail]])
        met[np.arange(CELLS), orders[number]] += 1
    return orders


def _least(heads: np.ndarray, tails: np.ndarray, taken: np.ndarray) -> tuple[int, int, int]:
    """Where heads (G, H) and tails (G, T) of one group have the smallest sum among those not taken (G, H, T)."""
    lowest = heads.min(axis=1) + tails.min(axis=1)
    best, place = None, (0, 0, 0)
    for group in lowest.argsort(kind="stable"):
        if best is not None and best <= lowest[group]:
            break
        sums = np.where(taken[group], np.iinfo(np.int32).max, heads[group][:, None] + tails[group])
        head, tail = divmod(int(sums.argmin()), sums.shape[1])
        if best is None or sums[head, tail] < best:
            best, place = sums[head, tail], (int(group), head, tail)
    return place
