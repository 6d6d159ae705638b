"""Square patches of images: cutting them out of cells and laying them out (jigsaw, PIRL, relative patch)."""

import torch
from torch import Tensor

from ...errors import ArgumentError

CELLS = 9  # three rows of three


def require_whole_patches(patch_size: int | None, unit: int) -> None:
    """Refuses patches whose size is not a multiple of the encoder's patch size.

    Args:
        patch_size: Side of the patches, in pixels; None if it is chosen automatically.
        unit: Patch size of the encoder, in pixels; 1 if it has none.

    Raises:
        ValueError: The patch size does not fit; the message says which multiple is needed.
    """
    if patch_size is not None and patch_size % unit:
        raise ValueError(
            f"patch_size is {patch_size} px, but the encoder's patch size is {unit} px: use a multiple of that, or null"
        )


def patch_side(patch_size: int | None, unit: int, size: int) -> int:
    """Side of the patches that are cut out of 3 x 3 cells of a view.

    Args:
        patch_size: The setting; None takes three quarters of a cell, rounded down to a multiple of the encoder's patch size.
        unit: Patch size of the encoder, in pixels; 1 if it has none.
        size: Side of the view, in pixels.

    Raises:
        ArgumentError: The patch is larger than a cell.
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
    """Pastes patches on empty images: the inverse of :func:`cut_squares` where the corners are the same.

    Args:
        patches: (B, N, C, side, side).
        top: (B, N) int64, row of the upper left corner of each; clamped so that the patch is inside.
        left: (B, N) int64, its column.
        size: Side of the images, in pixels.

    Returns:
        (B, C, size, size), zero outside of the patches.
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
    """A random position of a square in each of 3 x 3 cells.

    Args:
        numbers: (B, 18) in [0, 1): positions of the corners in their cells, first the nine rows, then the nine columns.
        cells: (B, 9) int64, which cell each square is in, row by row.
        size: Side of the image; cells are size // 3 pixels wide.
        side: Side of the squares, in pixels, at most size // 3.

    Returns:
        Rows and columns of the upper left corners, (B, 9) int64 each.
    """
    cell = size // 3
    inside = (numbers * (cell - side + 1)).long().unflatten(1, (2, CELLS))
    return cells // 3 * cell + inside[:, 0], cells % 3 * cell + inside[:, 1]
