"""The drawn numbers are uniform, depend on each of their four names, and give torchvision's distributions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop

from hfcontrast.data.augment.draws import (
    BLUR,
    BRIGHTNESS,
    CONTRAST,
    CUTOUT_SIZE,
    CUTOUT_X,
    CUTOUT_Y,
    GRAYSCALE,
    HUE,
    JITTER_ORDERS,
    KEYS,
    NEUTRAL,
    NOISE,
    NOISE_KEY,
    ORDER,
    SATURATION,
    SOBEL,
    SOLARIZE,
    draw_views,
)
from hfcontrast.data.keyed_random import uniforms
from hfcontrast.view import View

IDS = np.arange(20_000)


def draw(view: View, ids=IDS, seed=0, epoch=0, height=60, width=90):
    return draw_views((view,), seed, epoch, ids, np.full(len(ids), height), np.full(len(ids), width))[view.key]


def test_uniform_and_uncorrelated():
    numbers = uniforms(3, 1, IDS, 0, 4)
    assert numbers.shape == (20_000, 4) and numbers.min() >= 0 and numbers.max() < 1
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    others = [uniforms(4, 1, IDS, 0, 1), uniforms(3, 2, IDS, 0, 1), uniforms(3, 1, IDS + 1, 0, 1)]
    others += [uniforms(3, 1, IDS, 1, 1), uniforms(1, 3, IDS, 0, 1), numbers[:, 1:2]]
    for other in others:
        assert abs(np.corrcoef(numbers[:, 0], other[:, 0])[0, 1]) < 0.03


def test_a_sample_draws_the_same_in_any_batch():
    view = View(count=2, brightness=0.4, hue=0.1, blur=0.5)
    whole, part = draw(view, IDS[:100]), draw(view, IDS[[7, 50]])
    for a, b in zip(whole, part):
        assert np.array_equal(a[[7, 50]], b)
    large = np.array([2**63 + 5], dtype=np.uint64)  # ids of streams use all 64 bits
    assert not np.array_equal(draw(view, large).boxes, draw(view, large - 1).boxes)


def test_boxes_have_torchvisions_distribution():
    view = View(scale=(0.1, 0.9), ratio=(0.5, 1.5))
    boxes = draw(view, IDS[:4000]).boxes[:, 0]
    torch.manual_seed(0)
    image = torch.empty(3, 60, 90)
    expected = np.array([RandomResizedCrop.get_params(image, view.scale, view.ratio) for _ in range(4000)])
    assert (
        (boxes[:, :2] >= 0).all()
        and (boxes[:, 0] + boxes[:, 2] <= 60).all()
        and (boxes[:, 1] + boxes[:, 3] <= 90).all()
    )
    for column in range(4):
        assert stats.ks_2samp(boxes[:, column], expected[:, column]).pvalue > 1e-3
    assert stats.ks_2samp(boxes[:, 2] * boxes[:, 3], expected[:, 2] * expected[:, 3]).pvalue > 1e-3


def test_central_crop_where_no_attempt_fits():
    wide = draw(View(scale=(1, 1), ratio=(3 / 4, 4 / 3)), IDS[:50], height=20, width=400).boxes
    assert np.array_equal(np.unique(wide.reshape(-1, 4), axis=0), [[0, 186, 20, 27]])  # 20 * 4 / 3, in the middle
    tall = draw(View(scale=(1, 1)), IDS[:50], height=400, width=20).boxes
    assert np.array_equal(np.unique(tall.reshape(-1, 4), axis=0), [[186, 0, 27, 20]])
    pixel = draw(View(), IDS[:50], height=1, width=1).boxes
    assert np.array_equal(np.unique(pixel.reshape(-1, 4), axis=0), [[0, 0, 1, 1]])


def test_probabilities_and_ranges():
    color = {"brightness": 0.4, "contrast": 1.5, "saturation": 0.2, "hue": 0.1, "grayscale": 0.3}
    view = View(jitter=0.6, **color, blur=0.7, blur_sigma=(0.5, 2.0), solarize=0.2, vertical_flip=0.1)
    drawn = draw(view)
    values = drawn.color[:, 0]
    shares = {BRIGHTNESS: 0.6, CONTRAST: 0.6, SATURATION: 0.6, HUE: 0.6, GRAYSCALE: 0.3, BLUR: 0.7, SOLARIZE: 0.2}
    for column, share in shares.items():
        assert abs((values[:, column] != NEUTRAL[column]).mean() - share) < 0.02
    ranges = {BRIGHTNESS: (0.6, 1.4), CONTRAST: (0, 2.5), SATURATION: (0.8, 1.2), HUE: (-0.1, 0.1), BLUR: (0.5, 2)}
    for column, (low, high) in ranges.items():
        changed = values[values[:, column] != NEUTRAL[column], column]
        assert stats.kstest(changed, "uniform", (low, high - low)).pvalue > 1e-3
    counts = np.bincount(values[:, ORDER].astype(int), minlength=24)
    assert stats.chisquare(counts).pvalue > 1e-3 and len(JITTER_ORDERS) == 24
    assert np.allclose(drawn.flips[:, 0].mean(0), (0.5, 0.1), atol=0.02)
    jittered = values[:, BRIGHTNESS] != 1
    assert np.array_equal(jittered, values[:, HUE] != 0)  # all four or none


def test_what_is_switched_off_is_neutral():
    drawn = draw(View(jitter=0.0, brightness=0.5, hue=0.5, horizontal_flip=0.0))
    order = drawn.color[..., ORDER].copy()
    drawn.color[..., ORDER] = 0
    assert (drawn.color == NEUTRAL).all() and not drawn.flips.any() and order.max() == 23


def test_views_of_one_key_are_stacked_and_every_crop_is_its_own():
    views = (View(name="a", count=2), View(name="b", key="local_pixel_values"), View(name="c"))
    ids = IDS[:10]
    drawn = draw_views(views, 0, 0, ids, np.full(10, 300), np.full(10, 400))
    assert drawn["pixel_values"].boxes.shape == (10, 3, 4) and drawn["local_pixel_values"].boxes.shape == (10, 1, 4)
    crops = [*drawn["pixel_values"].boxes.transpose(1, 0, 2), drawn["local_pixel_values"].boxes[:, 0]]
    for first in range(4):
        for second in range(first):
            assert not np.array_equal(crops[first], crops[second])


# Drawn by the version before rotation, Sobel filters, noise and cutout.
BOXES = [[[9, 22, 26, 33], [1, 28, 48, 61]]]
FLIPS = [[[False, False], [False, False]]]
COLORS = [0.712303, 1.0, 1.0, -0.025693, 12.0, 0.0, 0.241589, 2.0]
NEW = {"rotate": 0.6, "sobel": 0.3, "noise": 0.4, "noise_std": (0.1, 0.3), "cutout": 0.7, "cutout_size": 0.25}


def test_rotation_sobel_noise_and_cutout_have_their_probabilities_and_ranges():
    drawn = draw(View(size=32, **NEW))
    values = drawn.color[:, 0]
    assert np.allclose(np.bincount(drawn.turns[:, 0], minlength=4) / len(IDS), (0.4, 0.2, 0.2, 0.2), atol=0.02)
    for column, share in {SOBEL: 0.3, NOISE: 0.4, CUTOUT_SIZE: 0.7}.items():
        assert abs((values[:, column] > 0).mean() - share) < 0.02
    assert stats.kstest(values[values[:, NOISE] > 0, NOISE], "uniform", (0.1, 0.2)).pvalue > 1e-3
    assert stats.kstest(values[:, NOISE_KEY], "uniform", (0, KEYS)).pvalue > 1e-3
    assert set(values[:, CUTOUT_SIZE]) == {0, 8}
    for column in (CUTOUT_Y, CUTOUT_X):
        assert stats.chisquare(np.bincount(values[:, column].astype(int), minlength=32)).pvalue > 1e-3


def test_they_shift_no_other_draw():
    views = (View(name="a", count=2, brightness=0.4, blur=0.5, vertical_flip=0.5), View(name="b", key="other"))
    arguments = 3, 5, IDS[:50], np.full(50, 60), np.full(50, 90)
    before, after = (draw_views((view, views[1]), *arguments) for view in (views[0], replace(views[0], **NEW)))
    assert all(np.array_equal(a, b) for a, b in zip(before["other"], after["other"]))
    one, other = before["pixel_values"], after["pixel_values"]
    assert np.array_equal(one.boxes, other.boxes) and np.array_equal(one.flips, other.flips)
    assert np.array_equal(one.color[..., :SOBEL], other.color[..., :SOBEL])
    assert not one.turns.any() and (one.color[..., SOBEL:] == 0).all() and other.turns.any()


def test_what_is_drawn_stays_for_ever():
    """Runs that are resumed, and figures that are published, rest on these numbers."""
    view = View(count=2, brightness=0.4, hue=0.1, blur=0.5)
    drawn = draw_views((view,), 7, 3, np.array([5]), np.array([60]), np.array([90]))["pixel_values"]
    assert drawn.boxes.tolist() == BOXES and drawn.flips.tolist() == FLIPS
    assert np.allclose(drawn.color[0, 0, :8], COLORS, atol=1e-6)


def test_unaugmented_crops_are_the_whole_image():
    view = View(count=3, unaugmented=1, rotate=1.0, horizontal_flip=1.0, brightness=0.4, jitter=1.0, noise=1.0)
    drawn, all_of_them = (
        draw(view, IDS[:9], height=60, width=60),
        draw(replace(view, unaugmented=0), IDS[:9], 0, 0, 60, 60),
    )
    assert (drawn.boxes[:, 2] == (0, 0, 60, 60)).all() and not drawn.flips[:, 2].any() and not drawn.turns[:, 2].any()
    assert (drawn.color[:, 2] == NEUTRAL).all()
    for own, other in zip(drawn, all_of_them):
        assert np.array_equal(own[:, :2], other[:, :2])
    assert drawn.flips[:, :2, 0].all() and (drawn.turns[:, :2] > 0).all() and (drawn.color[:, :2, NOISE] > 0).all()


@pytest.mark.parametrize(
    "name, value", [("sobel", 1.1), ("noise_std", (0.2, 0.1)), ("cutout_size", 0.0), ("unaugmented", -1)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"view 'view': {name} is .*, expected"):
        View(**{name: value})
