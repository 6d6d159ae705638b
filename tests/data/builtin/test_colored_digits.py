"""builtin/colored_digits: real scans of the right split, in colors, sizes, places and angles that differ."""

import numpy as np
import pytest

from hfcontrast.data.builtin import colored_digits, digits
from hfcontrast.data.decode import decode_pixels
from hfcontrast.data.sources import load_rows


@pytest.fixture
def small(monkeypatch):
    sizes = {"train": 60, "test": 40}
    monkeypatch.setattr(colored_digits, "SPLITS", sizes)
    monkeypatch.setattr(colored_digits, "CONFIGURATIONS", {None: sizes})


def images_of(rows) -> np.ndarray:
    return np.stack([decode_pixels(row["bytes"]) for row in rows.data["image"].to_pylist()])


def test_sizes_and_labels(small):
    rows = colored_digits.load("test")
    images = images_of(rows)
    assert images.shape == (40, 40, 40, 3) and len(set(rows["label"])) == 10
    assert rows.features == digits.FEATURES
    assert np.array_equal(images_of(colored_digits.load("test")), images)
    train = images_of(colored_digits.load("train"))
    assert train.shape == (60, 40, 40, 3) and not np.array_equal(train[:40], images)


def test_a_digit_is_the_darker_color_as_often_as_the_brighter_one_and_in_many_places(small):
    images = images_of(colored_digits.load("train")).astype(float)
    gray = images @ (0.299, 0.587, 0.114)
    border = np.concatenate([gray[:, 0], gray[:, -1], gray[:, :, 0], gray[:, :, -1]], 1)
    away = np.abs(gray - np.median(border, 1)[:, None, None])
    inner = away[:, 4:-4, 4:-4].max((1, 2))
    assert (inner > 40).mean() > 0.9  # there is a digit that differs from what is around it
    place = away.reshape(60, -1).argmax(1)
    darker = gray.reshape(60, -1)[np.arange(60), place] < np.median(border, 1)
    assert 0.25 < darker.mean() < 0.75
    assert np.std(place // 40) > 4 and np.std(place % 40) > 4
    assert np.std(images.mean((1, 2)), axis=0).min() > 30  # of each color, over the images


def test_no_scan_of_the_test_split_is_in_train(small, monkeypatch):
    asked = []
    load = digits.load
    monkeypatch.setattr(digits, "load", lambda split: asked.append(split) or load(split))
    colored_digits.load("train"), colored_digits.load("test")
    assert asked == ["train", "test"]


def test_it_is_opened_by_its_name(small):
    rows = load_rows("builtin/colored_digits", split="test")
    assert rows.class_names == [str(digit) for digit in range(10)]
