"""Squares that are cut out of images and laid out again."""

import itertools

import pytest
import torch

from hfcontrast.errors import RecipeError
from hfcontrast.nn.patches.squares import (
    corners_in_cells,
    cut_squares,
    lay_out,
    patch_side,
    require_whole_patches,
)


def test_squares_are_cut_out_and_laid_out_again():
    pictures = torch.randn(2, 3, 20, 20)
    top, left = torch.tensor([[0, 5, 13], [3, 12, 1]]), torch.tensor([[0, 8, 13], [7, 0, 14]])
    squares = cut_squares(pictures, top, left, 5)
    assert squares.shape == (2, 3, 3, 5, 5)
    for i, k in itertools.product(range(2), range(3)):
        y, x = int(top[i, k]), int(left[i, k])
        assert torch.equal(squares[i, k], pictures[i, :, y : y + 5, x : x + 5])
    canvas = lay_out(squares, top, left, 20)
    assert torch.equal(cut_squares(canvas, top, left, 5), squares)
    assert canvas.count_nonzero() == squares.numel()


def test_a_square_that_would_stand_out_is_moved_inside():
    square = torch.ones(1, 1, 3, 4, 4)
    canvas = lay_out(square, torch.tensor([[-3]]), torch.tensor([[9]]), 10)
    assert torch.equal(canvas[0, :, :4, 6:], square[0, 0]) and canvas.sum() == square.numel()


def test_every_cell_holds_its_square():
    cells = torch.stack([torch.randperm(9) for _ in range(50)])
    top, left = corners_in_cells(torch.rand(50, 18), cells, 31, 7)
    assert torch.equal(top // 10 * 3 + left // 10, cells)
    assert (top % 10).max() == (left % 10).max() == 3 and (top % 10).min() == (left % 10).min() == 0


@pytest.mark.parametrize("size, unit, side", [(255, 1, 64), (48, 1, 12), (240, 8, 56), (72, 8, 16), (24, 8, 8)])
def test_a_patch_takes_three_quarters_of_a_cell(size, unit, side):
    assert patch_side(None, unit, size) == side
    assert patch_side(7, unit, size) == 7


def test_patches_that_do_not_fit_are_refused():
    require_whole_patches(16, 8)
    require_whole_patches(None, 8)
    with pytest.raises(ValueError, match="patch_size is 12 px, but the encoder's patch size is 8 px"):
        require_whole_patches(12, 8)
    with pytest.raises(RecipeError, match="cells of 16 px hold no patch of 17 px: give 51 or more"):
        patch_side(17, 1, 48)
    with pytest.raises(RecipeError, match="give 48 or more"):
        patch_side(None, 16, 32)
