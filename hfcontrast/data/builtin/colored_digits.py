"""builtin/colored_digits: the scans of builtin/digits in random colors, sizes, places and angles.

What to find without labels is the digit: two images of one digit have hardly a pixel in common, as in half of them the digit is
the darker of the two colors. ``train`` has scans of ``builtin/digits``' train split alone, each two or three times, ``test`` of its test split.
Everything else is drawn from fixed seeds.
"""

import numpy as np
from datasets import Dataset

from hfcontrast.data.builtin import digits
from hfcontrast.data.decode import decode_pixels

SIDE = 40
SPLITS = {"train": 4000, "test": 1000}
CONFIGURATIONS = {None: SPLITS}
FEATURES = digits.FEATURES
_SEED = 20261
_SCAN, _PAD = 8, 4  # pixels of a scan, and of nothing around it
_CONTRAST = 0.25  # by which the gray levels of the two colors differ at least, of 0..1
_GRAY = (0.299, 0.587, 0.114)


def load(split: str, configuration: None = None) -> Dataset:
    """Generates one split: 40 x 40 PNG images with ``label``, the digit."""
    from scipy import ndimage  # slow to import

    rows = digits.load(split)
    scans = np.stack([decode_pixels(row["bytes"])[..., 0] for row in rows.data["image"].to_pylist()]) / 255
    padded = np.pad(scans, ((0, 0), (_PAD, _PAD), (_PAD, _PAD)))
    smooth = ndimage.spline_filter1d(ndimage.spline_filter1d(padded, axis=1), axis=2)  # cubic, for all scans at once
    rng = np.random.default_rng([_SEED, list(SPLITS).index(split)])
    count = SPLITS[split]
    order = np.concatenate([rng.permutation(len(scans)) for _ in range(-(-count // len(scans)))])[:count]
    images = []
    for number in order:
        cover = ndimage.map_coordinates(smooth[number], _places(rng), order=3, prefilter=False)
        images.append({"bytes": digits.png(_colored(rng, np.clip(cover, 0, 1)))})
    return Dataset.from_dict({"image": images, "label": np.array(rows["label"])[order].tolist()}, features=FEATURES)


def _places(rng: np.random.Generator) -> np.ndarray:
    """Where each pixel of an image lies in a padded scan, (2, 40, 40), for a random size, place and angle."""
    size, angle = rng.uniform(0.5, 0.9) * SIDE, rng.uniform(-0.35, 0.35)
    down, right = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2 - rng.uniform(size - SIDE, SIDE - size, (2, 1, 1)) / 2
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.stack([cos * down - sin * right, sin * down + cos * right])
    return turned * _SCAN / size + (_SCAN - 1) / 2 + _PAD


def _colored(rng: np.random.Generator, cover: np.ndarray) -> np.ndarray:
    """An image (40, 40, 3) uint8 of a digit that covers so much of each pixel, in two colors, light from one side and noise."""
    digit, background = _two_colors(rng)
    image = background + (digit - background) * cover[..., None]
    down, right = np.mgrid[:SIDE, :SIDE] / (SIDE - 1) * 2 - 1
    direction, noise = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.06)
    light = 1 + rng.uniform(0, 0.5) * (np.cos(direction) * right + np.sin(direction) * down)
    image = image * light[..., None] + rng.normal(0, noise, image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _two_colors(rng: np.random.Generator) -> np.ndarray:
    while True:
        colors = rng.random((2, 3))
        if abs(np.subtract(*(colors @ _GRAY))) > _CONTRAST:
            return colors
