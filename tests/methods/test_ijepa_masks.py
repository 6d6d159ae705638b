"""Multi-block masks: sizes and places of targets and context, what is guaranteed, and that each is its image's own."""

import pytest
import torch

from hfcontrast.methods.ijepa.masks import multi_block_masks, numbers_for_blocks
from hfcontrast.nn.masks.blocks import rectangles
from hfcontrast.nn.masks.places import places_of

PAPER = {"targets": 4, "target_scale": (0.15, 0.2), "target_aspect": (0.75, 1.5), "context_scale": (0.85, 1.0)}


def draw(images, shape=(14, 14), least=10, **changes):
    settings = {**PAPER, **changes}
    return multi_block_masks(
        torch.rand(images, numbers_for_blocks(settings["targets"])), shape, least=least, **settings
    )


def box(mask):
    """First row and column, height and width of what is true."""
    rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
    return int(rows[0]), int(columns[0]), int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


def test_targets_are_blocks_of_the_papers_shapes_and_of_one_size_in_an_image():
    sizes = set()
    for targets in draw(200)[1]:
        boxes = [box(target) for target in targets]
        tall, wide = boxes[0][2:]
        for target, (top, left, *sides) in zip(targets, boxes):
            assert sides == [tall, wide] and int(target.sum()) == tall * wide
            assert top + tall <= 14 and left + wide <= 14
        assert 0.15 * 196 * 0.8 < tall * wide < 0.2 * 196 * 1.2  # rounded sides
        assert 0.75 * 0.8 < tall / wide < 1.5 * 1.25
        sizes.add((tall, wide))
    assert len(sizes) > 5


def test_the_context_is_a_square_less_the_targets():
    context, targets = draw(300)
    assert not (context & targets.any(dim=1)).any()
    assert (context.sum(dim=(1, 2)) >= 10).all()
    whole = (context | targets.any(dim=1)).sum(dim=(1, 2))
    assert (whole >= 13 * 13).all()  # of 14 x 14
    for one, around in zip(context, targets.any(dim=1)):
        rows, columns = box(one)[2:]
        assert rows <= 14 and columns <= 14
        top, left, *_ = box(one)
        inside = (one | around)[top : top + rows, left : left + columns]
        assert inside.all()  # nothing else is missing


def test_places_are_uniform_and_reach_every_side():
    boxes = torch.tensor([[box(target) for target in targets] for targets in draw(1500)[1]]).flatten(0, 1)
    for start, side in ((0, 2), (1, 3)):
        last = 14 - boxes[:, side]
        assert (boxes[:, start] == last).any() and (boxes[:, start] == 0).any()
        assert abs(float((boxes[:, start] / last).mean()) - 0.5) < 0.02


@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (3, 9), (2, 2), (1, 5)])
def test_small_grids_keep_a_context(shape):
    least = max(shape[0] * shape[1] // 4, 1)
    context, targets = draw(400, shape, least)
    assert (context.sum(dim=(1, 2)) >= least).all()
    assert (targets.sum(dim=(2, 3)) >= 1).all()


def test_where_targets_leave_too_little_the_last_ones_are_left_in_the_context():
    context, targets = draw(200, (8, 8), least=20, targets=6, target_scale=(0.4, 0.5))
    assert (context.sum(dim=(1, 2)) >= 20).all()
    overlap = (context.unsqueeze(1) & targets).any(dim=(2, 3))  # of each target
    assert overlap.any() and not overlap.any(dim=1).all()
    left_in = overlap.float().mean(dim=0)
    assert left_in[0] < 0.1 < 0.3 < left_in[-1] and (left_in.diff() >= 0).all()  # the later, the more often


def test_a_context_that_cannot_be_large_enough_is_as_large_as_it_can_be():
    context, _ = draw(50, (8, 8), least=60, context_scale=(0.25, 0.25))
    assert (context.sum(dim=(1, 2)) == 16).all()  # a whole block of 4 x 4: every target left in it


def test_masks_depend_on_nothing_but_their_own_numbers():
    uniform = torch.rand(12, numbers_for_blocks(4))
    whole = multi_block_masks(uniform, (6, 8), least=10, **PAPER)
    parts = [multi_block_masks(part, (6, 8), least=10, **PAPER) for part in uniform.split(5)]
    for number in (0, 1):
        assert torch.equal(torch.cat([part[number] for part in parts]), whole[number])


def test_the_largest_numbers_stay_inside():
    context, targets = multi_block_masks(
        torch.full((1, numbers_for_blocks(4)), 1 - 2.0**-24), (14, 14), least=10, **PAPER
    )
    assert targets.any(dim=(2, 3)).all() and targets[0, 0, 13, 13] and context.any()


def test_rectangles():
    found = rectangles(*(torch.tensor([[number]]) for number in (1, 2, 2, 3)), (4, 6))
    expected = torch.zeros(1, 1, 4, 6, dtype=torch.bool)
    expected[0, 0, 1:3, 2:5] = True
    assert torch.equal(found, expected)


def test_places_of_masks_are_in_their_order_and_padded():
    masks = torch.tensor([[[0, 1, 0, 1, 1], [1, 0, 0, 0, 0]], [[0, 0, 0, 0, 0], [0, 0, 1, 0, 1]]], dtype=torch.bool)
    places, present = places_of(masks)
    assert places.shape == present.shape == (2, 2, 3)
    for mask, place, there in zip(masks.flatten(0, 1), places.flatten(0, 1), present.flatten(0, 1)):
        assert place[there].tolist() == mask.nonzero().flatten().tolist()
        assert place.max() < 5


@pytest.mark.parametrize("side, patches", [(16, 118), (14, 91)])
def test_the_contexts_have_the_sizes_that_the_method_states(side, patches):
    torch.manual_seed(0)
    context, _ = draw(3000, (side, side))
    assert abs(float(context.flatten(1).sum(1).float().mean()) - patches) < 1.5
