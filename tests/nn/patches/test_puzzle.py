"""Puzzles: squares cut out and laid out again, and orders of nine that differ as much as they can."""

import itertools

import numpy as np
import pytest
import torch

from hfcontrast.errors import RecipeError
from hfcontrast.nn.patches.puzzle import (
    corners_in_cells,
    cut_squares,
    lay_out,
    patch_side,
    permutation_set,
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


def test_each_order_differs_from_those_before_it_as_much_as_any_could():
    everything = np.array(list(itertools.permutations(range(9))))
    orders = permutation_set(12).numpy()
    assert orders[0].tolist() == list(range(9))
    distances, taken = np.zeros(len(everything), dtype=int), np.zeros(len(everything), dtype=bool)
    for before, order in zip(orders, orders[1:]):
        distances += (everything != before).sum(axis=1)
        taken |= (everything == before).all(axis=1)
        own = int((everything == order).all(axis=1).argmax())
        assert not taken[own] and distances[own] == distances[~taken].max()


def test_a_thousand_orders_are_as_far_apart_as_the_papers():
    orders = permutation_set(1000)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(9).expand(1000, -1)) and orders.dtype == torch.long
    assert len(orders.unique(dim=0)) == 1000
    distances = (orders[:, None] != orders).sum(dim=2)[~torch.eye(1000, dtype=torch.bool)]
    assert distances.min() >= 2  # the paper reports the same, and a mean of 8.00
    assert distances.float().mean().item() == pytest.approx(8.0, abs=0.02)
    counts = torch.stack([torch.bincount(place, minlength=9) for place in orders.T])
    assert counts.max() - counts.min() <= 2  # every cell is shown at every place equally often
    assert torch.equal(permutation_set(1000), orders)
    permutation_set(1000).zero_()
    assert torch.equal(permutation_set(1000), orders)  # nobody's changes reach the next one


def test_a_long_set_has_no_order_twice():
    assert len(permutation_set(2500).unique(dim=0)) == 2500


def test_orders_are_found_where_weights_are_not_there_yet():
    with torch.device("meta"):
        assert permutation_set(5).device.type == "cpu"


@pytest.mark.parametrize("count", [0, 10_001])
def test_a_set_must_have_a_sensible_size(count):
    with pytest.raises(ValueError, match=f"{count} permutations are asked for, expected a number from 1 to 10000"):
        permutation_set(count)


@pytest.mark.parametrize("size, unit, side", [(255, 1, 64), (48, 1, 12), (240, 8, 56), (72, 8, 16), (24, 8, 8)])
def test_a_patch_takes_three_quarters_of_a_cell(size, unit, side):
    assert patch_side(None, unit, size) == side
    assert patch_side(7, unit, size) == 7


def test_patches_that_do_not_fit_are_refused():
    require_whole_patches(16, 8)
    require_whole_patches(None, 8)
    with pytest.raises(ValueError, match="patch_size is 12 px, but the encoder cuts patches of 8 px itself"):
        require_whole_patches(12, 8)
    with pytest.raises(RecipeError, match="cells of 16 px, .* no patch of 17 px: set views.jigsaw.size to 51 or more"):
        patch_side(17, 1, 48)
    with pytest.raises(RecipeError, match="set views.jigsaw.size to 48 or more"):
        patch_side(None, 16, 32)
