"""Near-duplicates are found as a person would find them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from hfcontrast.data.duplicates import hashes_of, near_duplicates


def scene(seed, size=(160, 120)):
    """A smooth image that looks like no other."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def recompressed(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


CHANGES = {
    "as it is": lambda image: image.copy(),
    "recompressed": lambda image: recompressed(image, 85),
    "smaller": lambda image: image.resize((80, 60), Image.Resampling.BICUBIC),
    "larger and recompressed": lambda image: recompressed(image.resize((320, 240)), 75),
    "sharpened": lambda image: image.filter(ImageFilter.UnsharpMask(2, 50)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found(change):
    images = [scene(seed) for seed in range(30)]
    found = near_duplicates(hashes_of([CHANGES[change](image) for image in images]), hashes_of(images))
    assert found.mean() > 0.9 and (found.all() or change != "as it is")


def test_other_images_are_not():
    images, others = [scene(seed) for seed in range(200)], [scene(seed) for seed in range(200, 400)]
    shifted = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in images]
    assert not near_duplicates(hashes_of(images), hashes_of(others + shifted)).any()


def test_one_pattern_in_two_colors_flat_and_small_images_differ_by_their_pixels():
    circle = np.hypot(*np.mgrid[-20:20, -20:20]) < 12
    red, blue = (
        Image.fromarray((circle[..., None] * np.array(color)).astype("uint8")) for color in ((200, 0, 0), (0, 0, 200))
    )
    noise = np.random.default_rng(0).integers(120, 124, (4, 60, 60, 3)).astype("uint8")
    flat = [Image.fromarray(pixels) for pixels in noise]
    small = [Image.fromarray(pixels[:9, :9] * 30) for pixels in noise]
    for images in ([red, blue], flat, small):
        hashes = hashes_of(images)
        for i in range(len(images)):
            assert near_duplicates(hashes[i : i + 1], hashes[i : i + 1]).all()
            assert not near_duplicates(hashes[i : i + 1], np.delete(hashes, i, axis=0)).any()


def test_few_are_compared_at_once(monkeypatch):
    parts = [hashes_of([scene(seed) for seed in seeds]) for seeds in (range(40), range(40, 70))]
    both = np.concatenate(parts)
    monkeypatch.setattr("hfcontrast.data.duplicates._PAIRS", 100)
    assert np.array_equal(near_duplicates(both, parts[1]), np.arange(70) >= 40)
    assert near_duplicates(both, parts[1][:0]).sum() == 0 == len(near_duplicates(both[:0], both))
