"""Views that have another view's crops, and crops that come again after some epochs; other views are drawn as without them."""

from dataclasses import replace

import numpy as np
import pytest

from hfcontrast.data.augment.draws import draw_views
from hfcontrast.view import View, check_views

LARGE = View(name="large", size=32, scale=(0.3, 0.9), brightness=0.4, grayscale=0.3, vertical_flip=0.5, rotate=0.5)
SMALL = View(name="small", key="small_pixel_values", count=2, size=16, brightness=0.4)
SEEN = View(name="seen", key="seen_pixel_values", size=48, scale=(0.01, 0.02), crop_of="large")
IDS, HEIGHTS, WIDTHS = np.arange(9), np.full(9, 60), np.full(9, 80)


def drawn(*views, epoch=0):
    return draw_views(views, 3, epoch, IDS, HEIGHTS, WIDTHS)


def test_a_view_has_the_crops_of_another_and_its_own_colors():
    found = drawn(LARGE, SMALL, SEEN)
    large, seen = found["pixel_values"], found["seen_pixel_values"]
    assert np.array_equal(large.boxes, seen.boxes) and np.array_equal(large.flips, seen.flips)
    assert np.array_equal(large.turns, seen.turns) and large.turns.any()
    assert large.flips.any() and (seen.color[..., 0] == 1).all() and (large.color[..., 0] != 1).any()
    alone = drawn(LARGE, SMALL)
    for key, draws in alone.items():  # what is drawn for the others does not depend on it
        assert all(np.array_equal(a, b) for a, b in zip(draws, found[key]))
    first = drawn(SEEN, LARGE)  # whichever comes first
    assert np.array_equal(first["seen_pixel_values"].boxes, first["pixel_values"].boxes)


def test_crops_come_again_after_some_epochs_and_colors_do_not():
    repeating = replace(LARGE, repeat_after=3)
    found = [drawn(repeating, SMALL, SEEN, epoch=epoch) for epoch in range(7)]
    plain = [drawn(LARGE, SMALL, SEEN, epoch=epoch) for epoch in range(7)]
    for epoch in range(7):
        for key in ("pixel_values", "seen_pixel_values"):
            assert np.array_equal(found[epoch][key].boxes, plain[epoch % 3][key].boxes)
            assert np.array_equal(found[epoch][key].flips, plain[epoch % 3][key].flips)
            assert np.array_equal(found[epoch][key].turns, plain[epoch % 3][key].turns)
        assert np.array_equal(found[epoch]["pixel_values"].color, plain[epoch]["pixel_values"].color)
        assert np.array_equal(found[epoch]["small_pixel_values"].boxes, plain[epoch]["small_pixel_values"].boxes)
    assert not np.array_equal(found[0]["pixel_values"].boxes, found[1]["pixel_values"].boxes)
    assert not np.array_equal(found[0]["pixel_values"].color, found[3]["pixel_values"].color)


@pytest.mark.parametrize(
    "views, told",
    [
        ((LARGE, replace(SEEN, crop_of="larg")), "crop_of is 'larg', expected another view: 'large'"),
        ((replace(LARGE, crop_of="large"),), "expected another view: there is none"),
        ((LARGE, SEEN, replace(SMALL, count=1, crop_of="seen")), "whose crops are those of 'large': name that one"),
        ((LARGE, replace(SEEN, count=2)), "count is 2 and 1"),
        ((LARGE, replace(SEEN, repeat_after=2)), "repeat_after is that of view 'large'"),
    ],
)
def test_what_cannot_be_linked_is_refused(views, told):
    with pytest.raises(ValueError, match=told):
        check_views(views)


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="repeat_after is 0"):
        View(repeat_after=0)
    with pytest.raises(ValueError, match="count is -1, expected 0 or more"):
        View(count=-1)
