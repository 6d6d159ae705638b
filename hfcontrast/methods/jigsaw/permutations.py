"""The set of permutations that a jigsaw puzzle is shuffled by: orders of nine with large Hamming distances."""

import functools
import itertools

import numpy as np
import torch
from torch import Tensor

from ...nn.patches.squares import CELLS

LARGEST_SET = 10_000  # orders; more take minutes to find, and none has been of use


def permutation_set(count: int) -> Tensor:
    """Orders of nine that are far from each other (Noroozi and Favaro, 2016, arXiv:1603.09246, algorithm 1).

    Beginning with the one that changes nothing, the order is taken again and again whose Hamming distances to those taken
    sum up to the most, among all 362,880; of equal ones always the same one. A function of ``count`` alone.

    Args:
        count: How many, from 1 to 10,000.

    Returns:
        (count, 9) int64, no two equal.

    Raises:
        ValueError: The number is out of range.
    """
    if not 1 <= count <= LARGEST_SET:
        raise ValueError(f"{count} permutations are asked for, expected a number from 1 to {LARGEST_SET}")
    return torch.from_numpy(_permutation_set(count).copy())


@functools.lru_cache(maxsize=4)
def _permutation_set(count: int) -> np.ndarray:
    """The set as an array. An order is one of 126 choices of four cells, one of their 24 orders, one of 120 of the other five."""
    first = np.array(list(itertools.combinations(range(CELLS), 4)))
    rest = np.array([[cell for cell in range(CELLS) if cell not in four] for four in first.tolist()])
    heads = first[:, list(itertools.permutations(range(4)))]  # (126, 24, 4)
    tails = rest[:, list(itertools.permutations(range(5)))]  # (126, 120, 5)
    met = np.zeros((CELLS, CELLS), dtype=np.int32)  # how often a place was taken by a cell
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
    """Where heads (G, H) and tails (G, T) of one group have the smallest sum that is not taken (G, H, T)."""
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
