"""DINOv2's masks: how many of the crops have one, and what they depend on."""

import pytest
import torch

from hfcontrast.methods.dinov2.masks import crop_masks


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
