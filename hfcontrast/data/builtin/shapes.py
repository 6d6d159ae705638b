"""builtin/shapes: images of one textured, colored, rotated shape each, with labels, captions, masks and boxes.

What to find without labels is the combination of texture and color (``label``, 32 classes): cropping and mirroring leave it
as it is, while shape, size, place, light and background vary freely, so that pixels say little about it. Everything is drawn from fixed seeds; nothing is downloaded.
"""

import struct
import zlib

import datasets
import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Sequence, Value

SIDE = 64
SPLITS = {"train": 4000, "test": 1000}
SHAPES = ("circle", "square", "triangle", "star", "cross")
TEXTURES = ("plain", "striped", "dotted", "checkered")
COLORS = {
    "red": (0.85, 0.15, 0.15),
    "orange": (0.95, 0.55, 0.10),
    "yellow": (0.92, 0.85, 0.20),
    "green": (0.20, 0.65, 0.25),
    "cyan": (0.15, 0.70, 0.75),
    "blue": (0.18, 0.30, 0.85),
    "purple": (0.55, 0.22, 0.75),
    "pink": (0.95, 0.50, 0.70),
}
PLACES = {  # direction from the middle: right, down
    "center": (0, 0),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}
COMBINATIONS = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
UNSEEN = tuple(f"{color} {SHAPES[(2 * number + 1) % len(SHAPES)]}" for number, color in enumerate(COLORS))
# In `unseen_combinations`, each color lacks one shape in training; `unseen` has the images of those pairs.
CONFIGURATIONS: dict[str | None, dict[str, int]] = {
    None: SPLITS,
    "unseen_combinations": {"train": 3217, "test": 801, "unseen": 982},
}
LABELS = tuple(f"{texture} {color}" for texture in TEXTURES for color in COLORS)
_SEED = 20260
_CHUNK = 25  # images drawn at once: their arrays stay in the cache of the core

FEATURES = Features(
    {
        "image": Image(),
        "label": ClassLabel(names=list(LABELS)),
        "shape": ClassLabel(names=list(SHAPES)),
        "texture": ClassLabel(names=list(TEXTURES)),
        "color": ClassLabel(names=list(COLORS)),
        "place": ClassLabel(names=list(PLACES)),
        "combination": ClassLabel(names=list(COMBINATIONS)),
        "caption": Value("string"),
        "mask": Image(),
        "objects": {
            "bbox": Sequence(Sequence(Value("float32"), length=4)),
            "category": Sequence(ClassLabel(names=list(SHAPES))),
        },
    }
)


def load(split: str, configuration: str | None = None) -> Dataset:
    """Generates one split.

    Args:
        split: ``train`` (4,000 rows) or ``test`` (1,000 rows).
        configuration: None, or ``unseen_combinations``: then both splits lack the eight pairs of color and shape in
            ``UNSEEN``, and a third split, ``unseen``, has nothing but those.

    Returns:
        Rows of 64 x 64 PNG images with ``label`` (texture and color), ``shape``, ``texture``, ``color``, ``place``,
        ``combination`` (color and shape), ``caption``, ``mask`` (255 where the object is) and ``objects`` (``bbox`` x, y,
        width, height in pixels; ``category`` the shape), each a list with one entry.
    """
    if configuration is None:
        return _generate(split)
    if split == "unseen":
        return datasets.concatenate_datasets([_with_unseen(_generate(half), True) for half in SPLITS])
    return _with_unseen(_generate(split), False)


def _with_unseen(rows: Dataset, wanted: bool) -> Dataset:
    unseen = {COMBINATIONS.index(name) for name in UNSEEN}
    return rows.select([number for number, pair in enumerate(rows["combination"]) if (pair in unseen) == wanted])


def _generate(split: str) -> Dataset:
    rng = np.random.default_rng([_SEED, list(SPLITS).index(split)])
    count = SPLITS[split]
    columns: dict[str, list] = {name: [] for name in FEATURES if name != "objects"}
    boxes: list[list[list[float]]] = []
    # The same number of images in each class, in random order.
    labels = rng.permutation(np.arange(count) % len(LABELS))
    for first in range(0, count, _CHUNK):
        chunk = labels[first : first + _CHUNK]
        texture, color = np.divmod(chunk, len(COLORS))
        shape, place = rng.integers(0, len(SHAPES), len(chunk)), rng.integers(0, len(PLACES), len(chunk))
        images, masks = _draw(rng, shape, texture, color, place)
        pair = color * len(SHAPES) + shape
        names = ("label", "shape", "texture", "color", "place", "combination")
        for name, values in zip(names, (chunk, shape, texture, color, place, pair)):
            columns[name] += values.tolist()
        columns["caption"] += map(_caption, shape, texture, color, place)
        columns["image"] += [{"bytes": _png(image), "path": None} for image in images]
        columns["mask"] += [{"bytes": _png(mask), "path": None} for mask in masks]
        boxes += [[_box(mask)] for mask in masks]
    objects = [{"bbox": box, "category": [shape]} for box, shape in zip(boxes, columns["shape"], strict=True)]
    return Dataset.from_dict(columns | {"objects": objects}, features=FEATURES)


def _caption(shape: int, texture: int, color: int, place: int) -> str:
    where = list(PLACES)[place]
    where = "in the center" if where == "center" else f"at the {where}"
    return f"a {TEXTURES[texture]} {list(COLORS)[color]} {SHAPES[shape]} {where}"


def _png(pixels: np.ndarray) -> bytes:
    """An uncompressed PNG: the noise hardly compresses, and Pillow's encoder would take half of the time."""
    height, width = pixels.shape[:2]
    lines = np.zeros((height, 1 + pixels[0].size), dtype=np.uint8)  # each line begins with its filter: none
    lines[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 0)), (b"IEND", b"")):
        parts += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(kind + data))]
    return b"".join(parts)


def _box(mask: np.ndarray) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [float(v) for v in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]


def _draw(
    rng: np.random.Generator, shape: np.ndarray, texture: np.ndarray, color: np.ndarray, place: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 64, 64, 3) and masks (N, 64, 64), uint8. Coordinates run from -1 to 1 over the image."""
    count = len(shape)

    def uniform(low: float, high: float, *extra: int) -> np.ndarray:
        return rng.uniform(low, high, (count, *extra, 1, 1)).astype(np.float32)

    axis = (np.arange(SIDE, dtype=np.float32) + 0.5) * 2 / SIDE - 1
    x, y = np.broadcast_to(axis, (1, SIDE, SIDE)), np.broadcast_to(axis[:, None], (1, SIDE, SIDE))
    radius = uniform(0.35, 0.65)
    shift = np.array(list(PLACES.values()), dtype=np.float32)[place][:, :, None, None]
    shift = shift * uniform(0.3, 0.6, 2) + uniform(-0.15, 0.15, 2)
    angle = uniform(-0.3, 0.3)
    cos, sin = np.cos(angle), np.sin(angle)
    across, down = (x - shift[:, 0]) / radius, (y - shift[:, 1]) / radius
    u, v = cos * across + sin * down, cos * down - sin * across
    cover = np.clip(0.5 - _distance(shape, u, v) * radius * SIDE / 2, 0, 1)  # smooth over one pixel of the outline

    palette = np.array(list(COLORS.values()), dtype=np.float32)
    base = np.clip(palette[color] * rng.uniform(0.85, 1.1, (count, 1)), 0, 1).astype(np.float32)
    tone = _tone(texture, u * radius, v * radius, uniform(0.9, 1.1), uniform(0, 1), uniform(0, 1))
    second = np.where(rng.random((count, 1)) < 0.5, base * 0.35, 0.25 + 0.75 * (base * 0.4 + 0.6)).astype(np.float32)
    foreground = _between(second, base, tone)
    other = (color + rng.integers(1, len(COLORS), count)) % len(COLORS)
    background = _background(uniform, palette[other], x, y)
    image = background + (foreground - background) * cover[:, None]
    direction = uniform(0, 2 * np.pi)
    light = uniform(0.4, 1.1) * (1 + uniform(0, 0.6) * (np.cos(direction) * x + np.sin(direction) * y))
    noise = (rng.random(image.shape, dtype=np.float32) - 0.5) * uniform(0.03, 0.14)[:, None]
    pixels = np.clip((image * light[:, None] + noise) * 255, 0, 255).astype(np.uint8)
    return pixels.transpose(0, 2, 3, 1), (cover > 0.5).astype(np.uint8) * 255


def _between(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Colors (N, 3, H, W) between two colors (N, 3), by the share (N, H, W) of the second."""
    return first[:, :, None, None] + (second - first)[:, :, None, None] * share[:, None]


def _distance(shape: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """How far outside (positive) or inside the shape of unit radius a point is, near its outline."""
    result = np.empty(u.shape, dtype=np.float32)
    for number, name in enumerate(SHAPES):
        rows = np.flatnonzero(shape == number)
        a, b = u[rows], v[rows]
        if name == "circle":
            distance = np.hypot(a, b) - 0.9
        elif name == "square":
            distance = np.maximum(np.abs(a), np.abs(b)) - 0.75
        elif name == "cross":
            a, b = np.abs(a), np.abs(b)
            distance = np.minimum(np.maximum(a - 0.95, b - 0.32), np.maximum(b - 0.95, a - 0.32))
        else:
            distance = _star(a, b, *((3, 1.0, 0.5) if name == "triangle" else (5, 1.0, 0.45)))
        result[rows] = distance
    return result


def _star(u: np.ndarray, v: np.ndarray, tips: int, outer: float, inner: float) -> np.ndarray:
    """A star with its tips at the outer and its notches at the inner radius; a triangle where the notches are flat."""
    sector = np.pi / tips
    angle = np.abs(np.mod(np.arctan2(v, u), 2 * sector) - sector)  # 0 at a notch, sector at a tip
    radius = np.hypot(u, v)
    tip = outer * np.cos(sector), outer * np.sin(sector)
    edge = np.array([tip[0] - inner, tip[1]])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return (radius * np.cos(angle) - inner) * np.float32(normal[0]) + radius * np.sin(angle) * np.float32(normal[1])


def _tone(
    texture: np.ndarray, u: np.ndarray, v: np.ndarray, scale: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """1 where the first of the two colors is, 0 where the second is."""
    period = scale * np.float32(0.4)  # of the image's half side: 11 to 15 pixels
    a, b = u / period + first, v / period + second
    wave_a, wave_b = np.sin(2 * np.pi * a), np.sin(2 * np.pi * b)
    result = np.ones(u.shape, dtype=np.float32)
    for name, level in (
        ("striped", wave_a * 3),
        ("dotted", (0.75 - wave_a - wave_b) * 3),
        ("checkered", wave_a * wave_b * 5),
    ):
        rows = texture == TEXTURES.index(name)
        result[rows] = np.clip(0.5 + level[rows], 0, 1)
    return result


def _background(uniform, color: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Two pale or dark shades of a color that run into each other."""
    strength, lightness = uniform(0.0, 0.15)[..., 0], uniform(0.25, 0.6)[..., 0]
    first, second = (color * strength + lightness + change * uniform(0.0, 0.08)[..., 0] for change in (-1, 1))
    direction = uniform(0, 2 * np.pi)
    mix = 0.5 + 0.5 * (np.cos(direction) * x + np.sin(direction) * y)
    return _between(first, second, mix)
