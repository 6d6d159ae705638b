"""Pieces of a puzzle: patches cut out of an image and laid out again, and the orders of nine that differ most."""

import torch
from torch import Tensor

from ...errors import ArgumentError

CELLS = 9  # three rows of three


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
    """Side of the patches that are cut out of 3 x 3 cells of a view.

    Args:
        patch_size: The setting; None takes three quarters of a cell, rounded down to whole patches of the encoder.
        unit: Side of the encoder's own patches, in pixels; 1 where it has none.
        size: Side of the view, in pixels.

    Raises:
        ArgumentError: A cell does not hold the patch.
    """
    cell = size // 3
    side = patch_size or max(round(0.75 * cell) // unit, 1) * unit
    if side > cell:
        raise ArgumentError(
            f"size is {size} px, of which the cells of {cell} px hold no patch of {side} px: give {3 * side} or more",
            "size",
        )
    return side


def cut_squares(pixel_values: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Cuts squares out of images.

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
    """Puts patches on empty images: the inverse of :func:`cut_squares` where the corners are the same.

    Args:
        patches: (B, N, C, side, side).
        top: (B, N) int64, row of the upper left corner of each; moved where the patch would stand out.
        left: (B, N) int64, its column.
        size: Side of the images, in pixels.

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
        size: Side of the image; cells are size // 3 pixels wide.
        side: Side of the squares, in pixels, at most size // 3.

    Returns:
        Rows and columns of the upper left corners, (B, 9) int64 each.
    """
    cell = size // 3
    inside = (numbers * (cell - side + 1)).long().unflatten(1, (2, CELLS))
    return cells // 3 * cell + inside[:, 0], cells % 3 * cell + inside[:, 1]


def __getattr__(name: str):  # what this module also had under its old name
    from ...renamed import renamed

    return renamed(__name__, name)
