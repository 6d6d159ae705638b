"""Masks of blocks: how many patches they hide, that they are blocks, and that each is its image's own."""

import pytest
import torch

from hfcontrast.nn import block_masks


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
