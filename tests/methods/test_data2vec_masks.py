"""Masks of blocks that hide exactly as many patches in every image."""

import pytest
import torch

from hfcontrast.methods.data2vec import masks as exact_masks
from hfcontrast.methods.data2vec.masks import exact_block_masks, numbers_for_mask


def draw(images, count, height, width, least=16):
    return exact_block_masks(torch.rand(images, numbers_for_mask(height, width)), count, height, width, least)


@pytest.mark.parametrize(
    "count, height, width, least",
    [(120, 14, 14, 16), (118, 14, 14, 16), (10, 4, 4, 16), (38, 8, 8, 4), (23, 3, 8, 1), (1, 2, 2, 16), (6, 1, 7, 2)],
)
def test_every_mask_hides_as_many_patches_as_asked_for(count, height, width, least):
    masks = draw(300, count, height, width, least)
    assert masks.shape == (300, height, width) and masks.dtype == torch.bool
    assert (masks.sum(dim=(1, 2)) == count).all()
    assert len(masks.flatten(1).unique(dim=0)) > min(200, 3)


def neighbors(masks):
    masks = masks.float()
    return float(((masks[:, :, 1:] * masks[:, :, :-1]).sum() + (masks[:, 1:] * masks[:, :-1]).sum()) / masks.sum())


def test_hidden_patches_form_blocks_and_larger_ones_hang_together_more():
    scattered = (torch.rand(500, 196).argsort(dim=1).argsort(dim=1) < 120).view(500, 14, 14)
    small, large = neighbors(draw(500, 120, 14, 14, least=4)), neighbors(draw(500, 120, 14, 14, least=16))
    assert large > small > 1.2 * neighbors(scattered)


def test_what_is_filled_up_lies_beside_the_blocks(monkeypatch):
    """One block, of 38 patches rounded to 6 x 6 in the middle, and 24 of the 28 around it."""
    monkeypatch.setattr(exact_masks, "_BLOCKS", 1)
    uniform = torch.rand(300, numbers_for_mask(14, 14))
    uniform[:, :4] = 0.5
    masks = exact_block_masks(uniform, 60, 14, 14, least=16)
    assert masks[:, 4:10, 4:10].all()
    assert (masks[:, 3:11, 3:11].sum(dim=(1, 2)) == 60).all()
    assert 0.8 < masks[:, 3, 3:11].float().mean() < 0.92  # 24 / 28
    assert len(masks.flatten(1).unique(dim=0)) > 250


def test_every_place_is_hidden_as_often_as_its_mirror_image():
    share = draw(4000, 58, 14, 14).float().mean(dim=0)
    for mirrored in (share.flip(0), share.flip(1), share.T):
        assert (share - mirrored).abs().max() < 0.06
    assert share.min() > 0.01  # corners are hidden seldom, as by every mask of blocks


def test_a_mask_depends_on_nothing_but_its_own_numbers():
    uniform = torch.rand(12, numbers_for_mask(8, 6))
    whole = exact_block_masks(uniform, 29, 8, 6, 4)
    assert torch.equal(torch.cat([exact_block_masks(part, 29, 8, 6, 4) for part in uniform.split(5)]), whole)
