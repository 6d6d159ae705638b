"""Pieces of a puzzle: patches cut out of a picture and laid out again, and the orders of nine that differ most."""

import functools
import itertools

import numpy as np
import torch
from torch import Tensor

from ...errors import RecipeError

CELLS = 9  # three rows of three
LARGEST_SET = 10_000  # orders; more take minutes to find, and none has been of use


def require_whole_patches(patch_size: int | None, unit: int) -> None:
    """Refuses patches that the encoder cannot cut into patches of its own.

    Args:
        patch_size: Side of the patches, in pixels; None where it is chosen to fit.
        unit: Side of the encoder's own patches, in pixels; 1 where it has none.

    Raises:
        ValueError: Names the multiple that is needed.
    """
    if patch_size is not None and patch_size % unit:
        raise ValueError(
            f"patch_size is {patch_size} px, but the encoder cuts patches of {unit} px itself: use a multiple of that, or null"
        )


def patch_side(patch_size: int | None, unit: int, size: int) -> int:
    """Side of the patches that are cut out of 3 x 3 cells of a view called ``jigsaw``.

    Args:
        patch_size: The setting; None takes three quarters of a cell, rounded down to whole patches of the encoder.
        unit: Side of the encoder's own patches, in pixels; 1 where it has none.
        size: Side of the view, in pixels.

    Raises:
        RecipeError: A cell does not hold the patch.
    """
    cell = size // 3
    side = patch_size or max(round(0.75 * cell) // unit, 1) * unit
    if side > cell:
        raise RecipeError(
            f"a jigsaw view of {size} px has cells of {cell} px, which hold no patch of {side} px: set "
            f"views.jigsaw.size to {3 * side} or more"
        )
    return side


def cut_squares(pixel_values: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Cuts squares out of pictures.

    Args:
        pixel_values: (B, C, H, W).
        top: (B, N) int64, row of the upper left corner of each square.
        left: (B, N) int64, its column.
        side: Side of the squares, in pixels.

    Returns:
        (B, N, C, side, side), channels last in memory.
    """
    image, rows, columns = _pixels(top, left, side)
    return pixel_values.movedim(1, -1)[image, rows, columns].movedim(-1, 2)


def lay_out(patches: Tensor, top: Tensor, left: Tensor, size: int) -> Tensor:
    """Puts patches on empty pictures: the inverse of :func:`cut_squares` where the corners are the same.

    Args:
        patches: (B, N, C, side, side).
        top: (B, N) int64, row of the upper left corner of each; moved where the patch would stand out.
        left: (B, N) int64, its column.
        size: Side of the pictures, in pixels.

    Returns:
        (B, C, size, size), zero where no patch lies.
    """
    side = patches.shape[-1]
    canvas = patches.new_zeros(len(patches), size, size, patches.shape[2])
    places = _pixels(top.clamp(0, size - side), left.clamp(0, size - side), side)
    return canvas.index_put(places, patches.movedim(2, -1)).movedim(-1, 1)


def _pixels(top: Tensor, left: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, row and column of every pixel of squares (B, N), to index with."""
    steps = torch.arange(side, device=top.device)
    image = torch.arange(len(top), device=top.device).view(-1, 1, 1, 1)
    return image, (top.unsqueeze(2) + steps).unsqueeze(3), (left.unsqueeze(2) + steps).unsqueeze(2)


def corners_in_cells(numbers: Tensor, cells: Tensor, size: int, side: int) -> tuple[Tensor, Tensor]:
    """Places a square at random in each of 3 x 3 cells.

    Args:
        numbers: (B, 18) in [0, 1): where the corners lie in their cells, first the nine rows, then the nine columns.
        cells: (B, 9) int64, which cell each square is in, row by row.
        size: Side of the picture; cells are size // 3 pixels wide.
        side: Side of the squares, in pixels, at most size // 3.

    Returns:
        Rows and columns of the upper left corners, (B, 9) int64 each.
    """
    cell = size // 3
    inside = (numbers * (cell - side + 1)).long().unflatten(1, (2, CELLS))
    return cells // 3 * cell + inside[:, 0], cells % 3 * cell + inside[:, 1]


def cut_patches(pixel_values: Tensor, side: int, numbers: Tensor) -> Tensor:
    """Cuts a patch at a random place out of each of 3 x 3 cells, in a random order.

    Args:
        pixel_values: (B, C, S, S); cells are S // 3 pixels wide.
        side: Side of the patches, in pixels, at most S // 3.
        numbers: (B, 27) in [0, 1): where the patches' upper left corners lie in their cells, first the nine rows, then the
            nine columns; the last nine, by their ranks, shuffle the cells.

    Returns:
        (B, 9, C, side, side), channels last in memory.
    """
    cells = numbers[:, 18:].argsort(dim=1)
    return cut_squares(pixel_values, *corners_in_cells(numbers[:, :18], cells, pixel_values.shape[-1], side), side)


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
