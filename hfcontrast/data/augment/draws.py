"""What is drawn for each crop: its box, flips and rotation and the parameters of its color augmentation, from (seed, epoch, sample, view)."""

import math
from itertools import permutations
from typing import NamedTuple

import numpy as np

from hfcontrast.data.keyed_random import uniforms
from hfcontrast.view import View

_ATTEMPTS = 10  # of RandomResizedCrop, before it falls back to a central crop

SUFFIX = "_color"  # of the batch key that has the color parameters of a key's crops
# The columns of the color parameters of a crop; at its neutral value an operation changes nothing.
BRIGHTNESS, CONTRAST, SATURATION, HUE, ORDER, GRAYSCALE, BLUR, SOLARIZE = range(8)
SOBEL, NOISE, NOISE_KEY, CUTOUT_Y, CUTOUT_X, CUTOUT_SIZE = range(8, 14)
PARAMETERS = 14
# sigma 0: no blur; threshold 2: nothing is above it; deviation 0: no noise; side 0: nothing is cut out
NEUTRAL = np.array([1, 1, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0], dtype=np.float32)
KEYS = 2**24  # of the noise: as many whole numbers as float32 has without a gap
JITTER_ORDERS = np.array(list(permutations(range(4))))  # (24, 4): the column of each stage of the color jitter

# Which draw of a crop is used for what; the attempts at a crop box follow.
_FLIPS, _JITTER, _FACTORS, _ORDER, _GRAY, _BLUR, _SIGMA, _SOLARIZE, _BOX = 0, 2, 3, 7, 8, 9, 10, 11, 12
_DRAWS = _BOX + 4 * _ATTEMPTS
# Further ones, which are drawn only where one of their operations is on: the others stay what they are.
_ROTATE, _TURNS, _SOBEL, _NOISE, _STD, _KEY, _CUTOUT, _CENTER = range(_DRAWS, _DRAWS + 8)
_ALL_DRAWS = _CENTER + 2


class Draws(NamedTuple):
    """What was drawn for all crops under one batch key.

    Attributes:
        boxes: (B, V, 4) int64: top, left, height, width of each crop in its image, in pixels.
        flips: (B, V, 2) bool: mirrored left to right, mirrored top to bottom.
        color: (B, V, 14) float32: factors of brightness, contrast, saturation; hue shift in turns; number of the
            permutation in ``JITTER_ORDERS``; grayscale 0/1; sigma of the blur in pixels (0: none); threshold of the
            solarization in 0..1 (2: none); Sobel filters 0/1; standard deviation of the noise in 0..1 (0: none) and its key, a
            whole number below ``KEYS``; row, column and side of the square that is cut out, in pixels (row and column of its
            center; side 0: none).
        turns: (B, V) int64: rotations by 90 degrees, counterclockwise, after the flips.
    """

    boxes: np.ndarray
    flips: np.ndarray
    color: np.ndarray
    turns: np.ndarray


def draw_views(
    views: tuple[View, ...], seed: int, epoch: int, ids: np.ndarray, heights: np.ndarray, widths: np.ndarray
) -> dict[str, Draws]:
    """Draws the crops and distortions of a batch of samples.

    Every single crop has a number of its own, counted through ``views`` in their order, and views that share a key are
    stacked along V in that order. What a view has of another (``crop_of``), or of an earlier epoch (``repeat_after``), is drawn as there.

    Args:
        views: The views of the method.
        seed: The run's seed.
        epoch: The epoch.
        ids: (B,) integers that name the samples.
        heights: (B,) heights of the images in pixels.
        widths: (B,) widths of the images in pixels.

    Returns:
        For each batch key what was drawn for its crops.
    """
    parts: dict[str, list[Draws]] = {}
    numbers = numbers_of(views)
    sources = {view.name: view for view in views}
    for view in views:
        source = sources[view.crop_of or view.name]
        count = _ALL_DRAWS if view.sobel or view.noise or view.cutout or source.rotate else _DRAWS
        own = uniforms(seed, epoch, np.asarray(ids)[:, None], numbers[view.name][None, :], count)
        drawn_in = epoch % source.repeat_after if source.repeat_after else epoch
        draws = own
        if source is not view or drawn_in != epoch:
            draws = uniforms(seed, drawn_in, np.asarray(ids)[:, None], numbers[source.name][None, :], count)
        placed = _placed(source, draws, np.asarray(heights)[:, None], np.asarray(widths)[:, None])
        color = _color_parameters(view, own)
        if view.unaugmented:
            color[:, -view.unaugmented :] = NEUTRAL
        parts.setdefault(view.key, []).append(placed._replace(color=color))
    return {key: Draws(*(np.concatenate(a, axis=1) for a in zip(*part, strict=True))) for key, part in parts.items()}


def numbers_of(views: tuple[View, ...]) -> dict[str, np.ndarray]:
    """The numbers of each view's crops, (count,) uint64, by the view's name."""
    found, first = {}, 0
    for view in views:
        found[view.name] = np.arange(first, first + view.count, dtype=np.uint64)
        first += view.count
    return found


def _placed(view: View, draws: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> Draws:
    """Boxes, flips and rotations, without colors."""
    flips = draws[..., _FLIPS : _FLIPS + 2] < (view.horizontal_flip, view.vertical_flip)
    boxes = _boxes(view, draws[..., _BOX:_DRAWS], heights, widths)
    turns = np.zeros(flips.shape[:-1], dtype=np.int64)
    if view.rotate:
        turns = np.where(draws[..., _ROTATE] < view.rotate, 1 + np.floor(3 * draws[..., _TURNS]), 0).astype(np.int64)
    if view.unaugmented:
        last = slice(-view.unaugmented, None)
        boxes[:, last] = _central_boxes(view, heights, widths)
        flips[:, last], turns[:, last] = False, 0
    return Draws(boxes, flips, np.empty(0), turns)


def _boxes(view: View, draws: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The distribution of torchvision's RandomResizedCrop: the first of ten attempts that lies within the image."""
    draws = draws.reshape(*draws.shape[:-1], _ATTEMPTS, 4)
    low, high = math.log(view.ratio[0]), math.log(view.ratio[1])
    areas = (heights * widths)[..., None] * (view.scale[0] + (view.scale[1] - view.scale[0]) * draws[..., 0])
    roots = np.exp((low + (high - low) * draws[..., 1]) / 2)
    areas = np.sqrt(areas)
    crop_w, crop_h = np.rint(areas * roots), np.rint(areas / roots)
    fits = (crop_w > 0) & (crop_h > 0) & (crop_w <= widths[..., None]) & (crop_h <= heights[..., None])
    chosen = fits.argmax(-1)[..., None]
    crop_h, crop_w, top, left = (
        np.take_along_axis(a, chosen, -1)[..., 0] for a in (crop_h, crop_w, draws[..., 2], draws[..., 3])
    )
    top, left = top * (heights - crop_h + 1), left * (widths - crop_w + 1)
    boxes = np.stack([top, left, crop_h, crop_w], -1).astype(np.int64)  # truncation: whole numbers from 0 up
    if not (found := fits.any(-1)).all():
        central = np.broadcast_to(_central_boxes(view, heights, widths), boxes.shape)
        boxes = np.where(found[..., None], boxes, central)
    return boxes


def _central_boxes(view: View, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The whole image, or its middle where the image is narrower or wider than the allowed aspect ratios."""
    ratios = widths / heights
    crop_w = np.where(ratios > view.ratio[1], np.rint(heights * view.ratio[1]), widths)
    crop_h = np.where(ratios < view.ratio[0], np.rint(widths / view.ratio[0]), heights)
    crop_w, crop_h = np.clip(crop_w, 1, widths).astype(np.int64), np.clip(crop_h, 1, heights).astype(np.int64)
    return np.stack([(heights - crop_h) // 2, (widths - crop_w) // 2, crop_h, crop_w], -1)


def _color_parameters(view: View, draws: np.ndarray) -> np.ndarray:
    parameters = np.empty((*draws.shape[:-1], PARAMETERS), dtype=np.float32)
    parameters[:] = NEUTRAL
    jittered = draws[..., _JITTER] < view.jitter
    for column, strength in enumerate((view.brightness, view.contrast, view.saturation)):
        if strength:
            low, high = max(0.0, 1 - strength), 1 + strength
            factor = low + (high - low) * draws[..., _FACTORS + column]
            parameters[..., column] = np.where(jittered, factor, 1)
    if view.hue:
        parameters[..., HUE] = np.where(jittered, view.hue * (2 * draws[..., _FACTORS + HUE] - 1), 0)
    parameters[..., ORDER] = np.floor(draws[..., _ORDER] * len(JITTER_ORDERS))
    parameters[..., GRAYSCALE] = draws[..., _GRAY] < view.grayscale
    low, high = view.blur_sigma
    parameters[..., BLUR] = np.where(draws[..., _BLUR] < view.blur, low + (high - low) * draws[..., _SIGMA], 0)
    # A hair below the threshold, so that pixels that equal it are inverted whatever the last bit of the division is.
    threshold = view.solarize_threshold / 255 - 1e-6
    parameters[..., SOLARIZE] = np.where(draws[..., _SOLARIZE] < view.solarize, threshold, NEUTRAL[SOLARIZE])
    if view.sobel:
        parameters[..., SOBEL] = draws[..., _SOBEL] < view.sobel
    if view.noise:
        low, high = view.noise_std
        parameters[..., NOISE] = np.where(draws[..., _NOISE] < view.noise, low + (high - low) * draws[..., _STD], 0)
        parameters[..., NOISE_KEY] = np.floor(draws[..., _KEY] * KEYS)
    if view.cutout:
        parameters[..., CUTOUT_Y : CUTOUT_X + 1] = np.floor(draws[..., _CENTER : _CENTER + 2] * view.size)
        side = max(round(view.cutout_size * view.size), 1)
        parameters[..., CUTOUT_SIZE] = np.where(draws[..., _CUTOUT] < view.cutout, side, 0)
    return parameters
