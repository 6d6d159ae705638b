"""Whether colors tell the classes of labeled images apart: an augmentation that changes them would hide that.

Strong color augmentation is the best default for photographs of things, and the worst for fruit: an apple is told from a pepper by what it hides.
Each of some images is classified by the others, once by its histogram of colors, which knows nothing of shapes, and once by its pixels. Where
the histograms are clearly better, the augmentation has to leave the colors alone. Images of the fifth that an evaluation may hold out are not looked at.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..data.decode import UnreadableImage
from ..data.sources import Rows
from ..data.subsets import HELD_OUT, LIMIT, drawn_rows

MARGIN = 0.1  # by which the accuracy of histograms must be higher than that of pixels
_FEWEST, _MOST = 100, 400  # images
_CLASSES = 40  # at most, so that each has some images among them
_NEIGHBORS = 5
_SIDE, _SMALL_SIDE = 64, 16  # pixels, of the images whose colors are counted and of those that are compared
_BINS = 6  # of each channel


@dataclass(frozen=True)
class ColorInformation:
    """How well images are classified by the others, whether by their colors or by their pixels.

    Attributes:
        images: How many.
        by_colors: kNN accuracy by color histograms, each image by all others, in [0, 1].
        by_pixels: The same by pixels.
    """

    images: int
    by_colors: float
    by_pixels: float

    @property
    def decisive(self) -> bool:
        """Whether colors tell these classes apart, so that they are to be left alone."""
        return self.by_colors - self.by_pixels >= MARGIN

    def describe(self) -> str:
        """What was found, in words."""
        return f"kNN accuracy of {self.images} of them {self.by_colors:.0%} by their colors alone, {self.by_pixels:.0%} by their pixels"


def color_information(rows: Rows) -> ColorInformation | None:
    """Looks at some images of each of some classes; None without labels, or with too few images.

    Args:
        rows: Map-style rows, to be trained on.
    """
    labels = rows.class_numbers()
    if labels is None:
        return None
    places = np.fromiter(rows.places(), dtype=np.int64, count=len(labels))
    kept = np.delete(np.arange(len(labels)), drawn_rows(places, round(len(labels) / 5), HELD_OUT, labels))
    names, sizes = np.unique(labels[kept], return_counts=True)
    names = names[(names >= 0) & (sizes > 1)]
    names = names[np.unique(np.linspace(0, max(len(names) - 1, 0), min(_CLASSES, len(names))).astype(int))]
    kept = kept[np.isin(labels[kept], names)]
    chosen = kept[drawn_rows(places[kept], _MOST, LIMIT, labels[kept], every_class=True)]
    if len(names) < 2 or len(chosen) < _FEWEST:
        return None
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        read = list(pool.map(lambda place: _pixels(rows, place), chosen.tolist()))
    known = np.array([one is not None for one in read])
    if known.sum() < _FEWEST:
        return None
    found = [one for one in read if one is not None]
    colors, pixels = np.stack([_histogram(one) for one in found]), np.stack([_shrunk(one) for one in found])
    numbers = np.unique(labels[chosen][known], return_inverse=True)[1]
    return ColorInformation(len(found), accuracy(colors, numbers), accuracy(pixels, numbers))


def accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """kNN accuracy of samples by all others, with neighbors weighted by their similarity.

    Args:
        features: (N, D); they are centered, and compared by their cosine.
        labels: (N,) class numbers from 0.
    """
    centered = features - features.mean(axis=0)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True).clip(1e-9)
    similarities = centered @ centered.T
    np.fill_diagonal(similarities, -np.inf)
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :_NEIGHBORS]
    votes = np.zeros((len(labels), labels.max() + 1))
    weights = 1 + np.take_along_axis(similarities, nearest, axis=1)
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[nearest]), weights)
    return float((votes.argmax(axis=1) == labels).mean())


def _pixels(rows: Rows, place: int) -> np.ndarray | None:
    """(64, 64, 3) uint8; None of an image that cannot be read."""
    try:
        with Image.open(io.BytesIO(rows.reader.read(rows.dataset[place]["image"]))) as image:
            image.draft("RGB", (_SIDE, _SIDE))
            return np.asarray(image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
    except (UnreadableImage, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _histogram(pixels: np.ndarray) -> np.ndarray:
    """(216,) square roots of the shares of the colors, whose products are the affinity of Bhattacharyya."""
    counts = np.histogramdd(pixels.reshape(-1, 3), bins=(_BINS,) * 3, range=((0, 256),) * 3)[0]
    return np.sqrt(counts.ravel() / counts.sum())


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """(768,) the pixels at 16 px."""
    small = Image.fromarray(pixels).resize((_SMALL_SIDE, _SMALL_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=float).ravel()
