"""Near-duplicates: images with equal pixels, or that look alike when they are small."""

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from hfcontrast.data.bands import size_of

COLUMNS = 3  # of the hashes of an image
_SIDE, _LOW = 32, 8  # of the small image, in pixels, and of its low frequencies
_DISTANCE = 2  # bits of 64 that scaling and recompression may change
_COLOR = 6  # levels of 256 by which mean colors may differ: images of one pattern in several colors are not the same
_SMALLEST = 32  # px; what is smaller has too few pixels for a hash of its look
_FLAT = 8.0  # standard deviation of gray levels; below, noise decides the hash
_PAIRS = 1 << 22  # compared at once

_angles = np.pi * np.arange(_LOW)[:, None] * (np.arange(_SIDE) + 0.5) / _SIDE
_COSINES = np.cos(_angles) * np.where(np.arange(_LOW)[:, None] == 0, np.sqrt(0.5), 1.0)  # DCT-II, to a common factor


def image_hashes(image: Image.Image | np.ndarray) -> tuple[int, int, int]:
    """A hash of the pixels, one of the image's look, and its mean color, all int64.

    The second is the perceptual hash of 64 bits (pHash; E. Klinger and D. Starkweather, 2010; as in imagehash): which of the 8 x 8
    lowest frequencies of the 32 x 32 gray levels lie above their median. Small and flat images have zero: their pixels decide.

    Args:
        image: RGB, or (H, W, C) uint8 of another number of channels, whose mean is looked at.
    """
    pixels = hashlib.blake2b(image.tobytes(), digest_size=8, salt=size_of(image)[0].to_bytes(8, "little"))
    exact = int.from_bytes(pixels.digest(), "little", signed=True)
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image.mean(axis=2).astype(np.uint8)).convert("RGB")
    if min(image.size) < _SMALLEST:
        return exact, 0, 0
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    gray = np.asarray(small.convert("L"), dtype=np.float64)
    if gray.std() < _FLAT:
        return exact, 0, 0
    low = _COSINES @ gray @ _COSINES.T
    look = int(np.packbits(low > np.median(low)).view(np.int64)[0])
    red, green, blue = np.asarray(small).reshape(-1, 3).mean(axis=0).round().astype(int)
    return exact, look, int(red << 16 | green << 8 | blue)


def hashes_of(images: Sequence[Image.Image]) -> np.ndarray:
    """(N, 3) int64 of some images, see :func:`image_hashes`."""
    return np.array([image_hashes(image) for image in images], dtype=np.int64).reshape(-1, COLUMNS)


def near_duplicates(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which images have a near-duplicate among others: equal pixels, or nearly the same hash of their look and mean color.

    Args:
        hashes: (N, 3) int64, see :func:`image_hashes`.
        others: (M, 3) in the same way.

    Returns:
        (N,) bool.
    """
    found = np.isin(hashes[:, 0], others[:, 0])
    others = others[others[:, 1] != 0]
    places = np.flatnonzero(~found & (hashes[:, 1] != 0))
    rows = max(_PAIRS // max(len(others), 1), 1)
    for part in np.split(places, range(rows, len(places), rows)):
        alike = np.bitwise_count((hashes[part, None, 1] ^ others[None, :, 1]).view(np.uint64)) <= _DISTANCE
        row, other = alike.nonzero()
        apart = np.abs(_colors(hashes[part[row], 2]) - _colors(others[other, 2])).max(axis=-1, initial=0)
        found[part[row[apart <= _COLOR]]] = True
    return found


def _colors(packed: np.ndarray) -> np.ndarray:
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
