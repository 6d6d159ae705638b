"""Grids of patches: what they hold, how they are shaken and turned."""

import pytest
import torch

from hfcontrast.nn.patch_grid import cut_patches, jitter_patches, turn_grid


def test_a_picture_of_256_pixels_has_seven_by_seven_patches():
    images = torch.randn(2, 3, 256, 256)
    patches = cut_patches(images, 64, 32)
    assert patches.shape == (2, 7, 7, 3, 64, 64)
    assert torch.equal(patches[1, 2, 5], images[1, :, 64:128, 160:224])
    assert torch.equal(patches[0, 6, 0], images[0, :, 192:, :64])


def test_pixels_that_fill_no_patch_are_left_out():
    assert cut_patches(torch.randn(1, 3, 20, 31), 8, 6).shape == (1, 3, 4, 3, 8, 8)


def test_a_jittered_patch_is_a_square_of_it_in_a_frame():
    images = torch.arange(6 * 3 * 32 * 32.0).view(6, 3, 32, 32) + 1
    patches = cut_patches(images, 8, 8)
    numbers = torch.rand(6, 4 * 4 * 2)
    jittered, places = jitter_patches(patches, 3, numbers), set()
    assert jittered.shape == patches.shape
    for patch, source, (top, left) in zip(jittered.flatten(0, 2), patches.flatten(0, 2), numbers.view(-1, 2)):
        row, column = int(4 * top), int(4 * left)
        inner = patch[:, 1:6, 1:6]
        assert torch.equal(inner, source[:, row : row + 5, column : column + 5])
        assert patch.count_nonzero() == inner.numel()
        places.add((row, column))
    assert len(places) == 16


@pytest.mark.parametrize("direction, ahead", [("down", (1, 0)), ("up", (-1, 0)), ("right", (0, 1)), ("left", (0, -1))])
def test_a_grid_is_turned_so_that_its_direction_points_down(direction, ahead):
    turned = turn_grid(torch.arange(12).view(1, 3, 4, 1), direction)[0, :, :, 0]
    for line in turned.T:  # from one to the next is one step ahead
        places = [divmod(int(number), 4) for number in line]
        assert all((b[0] - a[0], b[1] - a[1]) == ahead for a, b in zip(places, places[1:]))
