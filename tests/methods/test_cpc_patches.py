"""Grids of patches: their contents, augmentation and rotation."""

import pytest
import torch

from hfcontrast.methods.cpc.patches import DRAWS, distort_patches, turn_grid
from hfcontrast.nn.patches.cut import cut_patches


def test_an_image_of_256_pixels_has_seven_by_seven_patches():
    images = torch.randn(2, 3, 256, 256)
    patches = cut_patches(images, 64, 32)
    assert patches.shape == (2, 7, 7, 3, 64, 64)
    assert torch.equal(patches[1, 2, 5], images[1, :, 64:128, 160:224])
    assert torch.equal(patches[0, 6, 0], images[0, :, 192:, :64])


def test_pixels_that_fill_no_patch_are_left_out():
    assert cut_patches(torch.randn(1, 3, 20, 31), 8, 6).shape == (1, 3, 4, 3, 8, 8)


def distorted(count=6, **strengths):
    """Patches (N, 3, 8, 8), what became of them, and the numbers (N, 7) that decided it."""
    patches, numbers = cut_patches(torch.randn(count, 3, 32, 32), 8, 8), torch.rand(count, 4 * 4 * DRAWS)
    result = distort_patches(patches, numbers, **strengths)
    assert result.shape == patches.shape
    return patches.flatten(0, 2), result.flatten(0, 2), numbers.view(-1, DRAWS)


def test_a_jittered_patch_is_a_square_of_it_in_a_frame():
    places = set()
    for source, patch, numbers in zip(*distorted(jitter=3)):
        row, column = int(4 * numbers[5]), int(4 * numbers[6])
        inner = patch[:, 1:6, 1:6]
        assert torch.equal(inner, source[:, row : row + 5, column : column + 5])
        assert patch.count_nonzero() == inner.numel()
        places.add((row, column))
    assert len(places) == 16


def test_contrast_and_brightness_are_each_patchs_own():
    sources, patches, numbers = distorted(contrast=0.5, brightness=2.0)
    gains, shifts = numbers[:, 0] + 0.5, 4 * numbers[:, 1] - 2  # in [0.5, 1.5) and [-2, 2)
    means = sources.mean(dim=(1, 2, 3))
    torch.testing.assert_close(patches.mean(dim=(1, 2, 3)), means + shifts, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(patches.std(dim=(1, 2, 3)), sources.std(dim=(1, 2, 3)) * gains, rtol=1e-4, atol=1e-5)


def test_one_channel_stays_where_colors_are_dropped():
    kept = []
    for source, patch, numbers in zip(*distorted(20, color_drop=0.3)):
        whole = [bool(torch.equal(a, b)) for a, b in zip(patch, source)]
        if numbers[2] < 0.3:
            kept.append(whole.index(True))
            assert sum(whole) == 1 and patch.count_nonzero() == 64
        else:
            assert all(whole)
    assert set(kept) == {0, 1, 2} and 50 < len(kept) < 150  # of 320


def test_patches_are_mirrored():
    sources, patches, numbers = distorted(20, flip=0.5)
    mirrored = numbers[:, 4] < 0.5
    assert torch.equal(patches[mirrored], sources[mirrored].flip(-1))
    assert torch.equal(patches[~mirrored], sources[~mirrored]) and 100 < mirrored.sum() < 220


def test_nothing_is_distorted_unasked():
    sources, patches, _ = distorted()
    assert torch.equal(sources, patches)


@pytest.mark.parametrize("direction, ahead", [("down", (1, 0)), ("up", (-1, 0)), ("right", (0, 1)), ("left", (0, -1))])
def test_a_grid_is_turned_so_that_its_direction_points_down(direction, ahead):
    turned = turn_grid(torch.arange(12).view(1, 3, 4, 1), direction)[0, :, :, 0]
    for line in turned.T:  # from one to the next is one step ahead
        places = [divmod(int(number), 4) for number in line]
        assert all((b[0] - a[0], b[1] - a[1]) == ahead for a, b in zip(places, places[1:]))
