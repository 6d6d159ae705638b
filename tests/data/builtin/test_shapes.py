"""The built-in data sets: what their rows hold, and that they are the same every time."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from hfcontrast.data.builtin import digits, shapes


@pytest.fixture(scope="module")
def test_split():
    return shapes.load("test")


def digest(dataset) -> str:
    return hashlib.sha256(
        b"".join(row["bytes"] for row in dataset.with_format("arrow")[:]["image"].to_pylist())
    ).hexdigest()


def test_rows_describe_their_image(test_split):
    assert len(test_split) == 1000 and set(np.bincount(test_split["label"])) == {31, 32}
    names = {name: test_split.features[name].names for name in ("label", "shape", "texture", "color", "place")}
    for row in test_split.select(range(0, 1000, 50)):
        picture, mask = np.asarray(row["image"]), np.asarray(row["mask"])
        assert picture.shape == (64, 64, 3) and mask.shape == (64, 64) and set(np.unique(mask)) == {0, 255}
        texture, shape = names["texture"][row["texture"]], names["shape"][row["shape"]]
        assert names["label"][row["label"]] == f"{texture} {names['color'][row['color']]}"
        place = names["place"][row["place"]]
        where = "in the center" if place == "center" else f"at the {place}"
        assert row["caption"] == f"a {texture} {names['color'][row['color']]} {shape} {where}"
        assert row["objects"]["category"] == [row["shape"]]
        (x, y, w, h), = row["objects"]["bbox"]  # fmt: skip
        ys, xs = np.nonzero(mask)
        assert (x, y, x + w - 1, y + h - 1) == (xs.min(), ys.min(), xs.max(), ys.max())
        if "right" in place:
            assert xs.mean() > 32
        if "top" in place:
            assert ys.mean() < 32


def test_objects_differ_from_their_background_and_are_large(test_split):
    contrast, sizes = [], []
    for row in test_split.select(range(0, 1000, 5)):
        picture, mask = np.asarray(row["image"]).astype(float), np.asarray(row["mask"]) > 0
        contrast.append(np.abs(picture[mask].mean(0) - picture[~mask].mean(0)).max())
        sizes.append(max(row["objects"]["bbox"][0][2:]) / 64)
    assert np.median(contrast) > 40 and np.quantile(contrast, 0.02) > 10
    assert min(sizes) > 0.25 and max(sizes) <= 0.8 and np.median(sizes) > 0.4


def test_the_same_every_time_and_splits_differ(test_split, monkeypatch):
    assert digest(shapes.load("test")) == digest(test_split)
    assert shapes.SPLITS == {"train": 4000, "test": 1000}
    monkeypatch.setitem(shapes.SPLITS, "train", 200)  # for speed
    train = shapes.load("train")
    first = {row["bytes"] for row in train.with_format("arrow")[:]["image"].to_pylist()}
    assert not first & {row["bytes"] for row in test_split.with_format("arrow")[:]["image"].to_pylist()}


def test_pixels_alone_say_little_about_the_label(test_split):
    """Nearest neighbors on raw pixels stay far below what colors alone allow, so that what an encoder learns shows."""
    pixels = (
        np.stack([np.asarray(image.resize((16, 16))) for image in test_split["image"]]).reshape(1000, -1).astype(float)
    )
    labels = np.array(test_split["label"])
    known, asked = pixels[:800], pixels[800:]
    distances = (known**2).sum(1) - 2 * asked @ known.T
    assert (labels[:800][distances.argmin(1)] == labels[800:]).mean() < 0.25


def test_png_files_are_valid(test_split):
    data = test_split.with_format("arrow")[:1]["image"].to_pylist()[0]["bytes"]
    Image.open(io.BytesIO(data)).verify()


def test_digits():
    train, test = digits.load("train"), digits.load("test")
    assert (len(train), len(test)) == (1442, 355) == tuple(digits.SPLITS.values())
    picture = np.asarray(train[0]["image"])
    assert picture.shape == (8, 8) and picture.max() > 200 and train[0]["label"] == 0
    assert np.bincount(test["label"]).min() >= 34
