"""Masks of blocks: how many patches they hide, that they are blocks, and that each is its image's own."""

import pytest
import torch

from hfcontrast.nn import block_masks, crop_masks


def draw(images, count, side, attempts=16):
    return block_masks(torch.rand(images, 4 * attempts), torch.full((images,), count), side, side)


@pytest.mark.parametrize("side, count", [(4, 8), (7, 14), (14, 19), (14, 98)])
def test_as_many_patches_are_hidden_as_asked_for_or_a_few_fewer(side, count):
    hidden = draw(500, count, side).sum(dim=(1, 2))
    assert hidden.max() == count
    # The authors' generator reaches 0.995 to 0.999 of the count in the mean.
    assert 0.98 < hidden.double().mean() / count <= 1


def test_nothing_is_hidden_where_nothing_is_asked_for():
    assert not draw(20, 0, 6).any()
    assert block_masks(torch.rand(0, 16), torch.zeros(0, dtype=torch.long), 6, 6).shape == (0, 6, 6)


def test_hidden_patches_form_blocks():
    masks = draw(500, 58, 14).float()
    scattered = (torch.rand(500, 196).argsort(dim=1) < 58).view(500, 14, 14).float()
    neighbors = [(m[:, :, 1:] * m[:, :, :-1]).sum(dim=(1, 2)).mean() for m in (masks, scattered)]
    assert neighbors[0] > 2.5 * neighbors[1]


def test_one_attempt_is_one_rectangle_within_the_image():
    for mask in draw(200, 30, 9, attempts=1):
        rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
        if len(rows):
            assert mask.sum() == len(rows) * len(columns) <= 30
            assert len(rows) == rows[-1] - rows[0] + 1 and len(columns) == columns[-1] - columns[0] + 1
            assert len(rows) < 9 and len(columns) < 9


def test_a_mask_depends_on_nothing_but_its_own_numbers():
    uniform, counts = torch.rand(12, 64), torch.arange(12) * 3
    whole = block_masks(uniform, counts, 8, 6)
    assert whole.shape == (12, 8, 6) and whole.dtype == torch.bool
    assert torch.equal(torch.cat([block_masks(uniform[:5], counts[:5], 8, 6), block_masks(uniform[5:], counts[5:], 8, 6)]), whole)  # fmt: skip


@pytest.mark.parametrize("probability, numbers", [(0.0, {0}), (0.5, {1, 2}), (2 / 3, {2}), (1.0, {3})])
def test_of_each_images_crops_always_as_many_are_masked(probability, numbers):
    masks = crop_masks(torch.arange(400), (3, 8, 6), probability, (0.2, 0.6), 1, 2)
    assert masks.shape == (400, 3, 8, 6)
    masked = masks.any(dim=(2, 3))
    assert set(masked.sum(dim=1).tolist()) == numbers
    torch.testing.assert_close(masked.float().mean(dim=0), torch.full((3,), probability), rtol=0, atol=0.08)
    shares = masks.float().mean(dim=(2, 3))[masked]
    assert not len(shares) or (shares.max() <= 0.6 and 0.35 < shares.mean() < 0.41)


def test_masks_of_crops_are_a_function_of_their_key():
    index = torch.arange(50)
    first = crop_masks(index, (2, 7, 7), 0.5, (0.1, 0.5), 1, 2)
    assert torch.equal(crop_masks(index[20:], (2, 7, 7), 0.5, (0.1, 0.5), 1, 2), first[20:])
    assert not torch.equal(crop_masks(index, (2, 7, 7), 0.5, (0.1, 0.5), 1, 3), first)
