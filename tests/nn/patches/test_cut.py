"""Patches cut out of images come back; one cut serves CPC's grids and MAE's rows of pixels."""

import pytest
import torch

from hfcontrast.nn.patches.cut import cut_patches, normalize_patches, patchify, unpatchify


@pytest.mark.parametrize("size, stride", [(4, None), (4, 4), (4, 2), (3, 2)])
def test_patches_lie_where_the_grid_says(size, stride):
    images = torch.randn(2, 3, 8, 12)
    patches = cut_patches(images, size, stride)
    step = stride or size
    assert patches.shape == (2, (8 - size) // step + 1, (12 - size) // step + 1, 3, size, size)
    for row, column in ((0, 0), (1, 2)):
        top, left = row * step, column * step
        assert torch.equal(patches[:, row, column], images[:, :, top : top + size, left : left + size])


def test_patches_come_back_as_images():
    pixels = torch.randn(2, 3, 8, 12)
    patches = patchify(pixels, 4)
    assert patches.shape == (2, 6, 48)
    assert torch.equal(patches[1, 4].view(4, 4, 3), pixels[1, :, 4:8, 4:8].permute(1, 2, 0))
    assert torch.equal(unpatchify(patches, 4, 2), pixels)


def test_normalized_patches_have_mean_0_and_variance_1_and_come_back():
    patches = torch.randn(2, 5, 27) * 3 + 1
    normalized, mean, std = normalize_patches(patches)
    torch.testing.assert_close(normalized.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalized.var(-1), torch.ones(2, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalized * std + mean, patches)
    assert normalize_patches(torch.ones(1, 1, 12))[0].isfinite().all()
