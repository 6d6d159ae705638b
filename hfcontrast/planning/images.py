"""A look at a folder of images, of some dozens of which the pixels are seen: how many there are, and of what kind."""

import difflib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.bands import bands_of, raw_bands
from ..data.decode import UnreadableImage
from ..data.held_out import held_out_sources
from ..data.image_formats import ending_of, image_endings
from ..data.sources import Rows, load_rows
from ..data.sources.unpacking import is_archive
from ..errors import DataError
from ..progress import LongTask
from .channels import misfit, of_one_number
from .color_information import ColorInformation, color_information

FEWEST = 16  # images that anything is trained on
_SAMPLE = 64  # images that are opened
_SHRUNK = 64  # pixels a side, at which colors are looked at
_VALUES = 10_000  # pixels of an image whose values are looked at
_TABLES = (".parquet", ".arrow", ".csv", ".json", ".jsonl")
_DEEP = ("I", "F")  # and all modes that begin with I;16
_GRAY = 6  # levels of 255 by which the channels of a pixel may differ
_COLORED = 0.01  # share of a gray image's pixels that may have a color
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImageFacts:
    """What is known of the images that are to be trained on.

    Attributes:
        count: How many there are.
        classes: The names of their classes; None without labels.
        captions: The column with captions; None without.
        width: Median of the widths, in pixels.
        height: The same.
        smallest: The shorter side of one of the smallest images (the tenth part is smaller), in pixels.
        gray: Share of the images without color.
        deep: Share of the images with more than 8 bits a channel.
        window: The values of those that the darkest and brightest thousandth lie beyond; None without such images.
        portrait: Share of those that are higher than wide.
        turned: Share of those that lie on their side, and are turned upright by what the camera has noted.
        unreadable: Share of the images that cannot be read, or have another number of channels.
        test: What is evaluated on, in words.
        channels: How many the images have, where these are neither gray nor color; None of others.
        colors: How well colors tell the classes apart; None where that was not looked at.
    """

    count: int
    classes: tuple[str, ...] | None = None
    captions: str | None = None
    width: int = 224
    height: int = 224
    smallest: int = 224
    gray: float = 0.0
    deep: float = 0.0
    window: tuple[float, float] | None = None
    portrait: float = 0.0
    turned: float = 0.0
    unreadable: float = 0.0
    test: str = "a fifth of them"
    channels: int | None = None
    colors: ColorInformation | None = None

    @property
    def all_gray(self) -> bool:
        """Whether no image has a color, as far as was looked."""
        return self.gray == 1.0 and self.channels is None


def source_of(folder: str) -> dict[str, str]:
    """The settings of ``data`` that open a folder, an archive or a table of images.

    Args:
        folder: Its path.

    Raises:
        DataError: There is nothing of this name, or it is no folder of images.
    """
    if not os.path.exists(folder):
        raise DataError(_missing(folder))
    if os.path.isfile(folder) and not is_archive(folder):
        ending = ending_of(folder)
        if ending in _TABLES:
            return {"path": os.path.abspath(folder)}
        if ending in image_endings():
            raise DataError(f"--images {folder} is a single image: name the folder that the images are in")
        raise DataError(
            f"--images {folder} is a file, and neither an archive (zip, tar) nor a table ({', '.join(_TABLES)}): name a folder of images"
        )
    if os.path.isdir(folder) and _is_table(folder):
        return {"path": os.path.abspath(folder)}
    return {"path": "imagefolder", "data_dir": os.path.abspath(folder)}


def look(
    source: Mapping[str, Any], folder: str, channels: int | None = None, max_unreadable: float = 0.01
) -> ImageFacts:
    """Looks at the images that are trained on.

    Args:
        source: As arguments of ``load_rows``, the split among them.
        folder: What the user calls them.
        channels: What ``data.channels`` says.
        max_unreadable: Share of the images that may be unreadable.

    Raises:
        DataError: They cannot be opened, are too few, or have several numbers of channels.
    """
    rows = load_rows(**source)
    count = rows.num_rows or 0
    if count < FEWEST:
        raise DataError(
            f"--images {folder} holds {'one image' if count == 1 else f'{count} images'}, and what is learned is what tells many images "
            f"apart: at least {FEWEST} are needed, and some hundreds are a beginning"
        )
    with LongTask(f"looking at the images of {folder}"):
        places = np.unique(np.linspace(0, count - 1, _SAMPLE).astype(int)).tolist()
        seen, found = of_one_number([_seen(rows, place, channels) for place in places], folder, max_unreadable)
    read = [one for one in seen if not isinstance(one, str)]
    if not read:
        raise DataError(
            f"--images {folder}: none of {len(seen)} images that were tried can be used; the first one {seen[0]}"
        )
    if rows.labeled and rows.class_names and found is None and not all(one["gray"] for one in read):
        with LongTask(f"looking at the colors of {folder}"):
            colors = color_information(rows)
    else:
        colors = None
    width, height = np.median([one["size"] for one in read], axis=0).astype(int).tolist()
    return ImageFacts(
        count,
        tuple(rows.class_names) if rows.labeled and rows.class_names else None,
        _captions(source),
        width,
        height,
        int(np.quantile([min(one["size"]) for one in read], 0.1)),
        _share(read, "gray"),
        _share(read, "deep"),
        _window([one["values"] for one in read if one["values"] is not None]),
        float(np.mean([one["size"][0] < one["size"][1] for one in read])),
        _share(read, "turned"),
        1 - len(read) / len(seen),
        _tests(source),
        found,
        colors,
    )


def _share(seen: list[dict[str, Any]], name: str) -> float:
    return float(np.mean([one[name] for one in seen]))


def _seen(rows: Rows, place: int, wanted: int | None) -> dict[str, Any] | str:
    """What the file of an image says, and whether its pixels have a color; the cause where it cannot be opened."""
    try:
        data = rows.reader.read(rows.dataset[place]["image"])
    except UnreadableImage as error:
        return str(error)
    if cause := misfit(rows, place, data, wanted):
        return cause
    if (channels := bands_of(data)) is not None:
        try:
            pixels = raw_bands(data, rows.reader.max_pixels)
        except Exception as error:  # tifffile raises anything on damaged files
            return str(error)
        deep = pixels.dtype != np.uint8
        values = pixels.astype(float).ravel() if deep else None
        size = (pixels.shape[1], pixels.shape[0])
        return {"size": size, "gray": False, "deep": deep, "turned": False, "values": values, "channels": channels}
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, (width, height) = image.mode, image.size
            turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            deep = mode in _DEEP or mode.startswith("I;16")
            values = np.asarray(image).astype(float).ravel() if deep else None
            image.draft("RGB", (_SHRUNK, _SHRUNK))
            colors = not (deep or mode in ("L", "1", "LA"))
            if colors:
                image.thumbnail((_SHRUNK, _SHRUNK))
            pixels = np.asarray(image.convert("RGB")).astype(int) if colors else None
    except Exception:  # Pillow raises anything; the decoder says what is wrong
        try:
            rows.reader.image(rows.dataset[place]["image"])
        except UnreadableImage as error:
            return str(error)
        return "cannot be opened"
    colored = pixels is not None and (np.ptp(pixels, axis=-1) > _GRAY).mean() > _COLORED
    size = (height, width) if turned else (width, height)
    return {"size": size, "gray": not colored, "deep": deep, "turned": turned, "values": values, "channels": None}


def _window(values: list[np.ndarray]) -> tuple[float, float] | None:
    """The range of the values of some images, without the darkest and brightest thousandth of them."""
    if not values:
        return None
    some = np.concatenate([image[:: max(len(image) // _VALUES, 1)] for image in values])
    low, high = np.quantile(some[np.isfinite(some)], [0.001, 0.999]).tolist()
    if high > 1:  # whole numbers, unless they are shares
        low, high = float(np.floor(low)), float(np.ceil(high))
    return (low, high) if low < high else None


def _captions(source: Mapping[str, Any]) -> str | None:
    """The column of captions, where there is one."""
    rows = load_rows(**source, captioned="auto")
    return None if rows.captions is None else ".".join(rows.captions)


def _tests(source: Mapping[str, Any]) -> str:
    """What the encoder is evaluated on, in words."""
    for _, split, folder in held_out_sources({key: value for key, value in source.items() if key != "split"}):
        if folder is not None:
            return f"the folder {folder.name} beside them"
        if split != source["split"]:
            return f"the split {split}"
    return "a fifth of them"


def _is_table(folder: str) -> bool:
    """Whether a folder holds tables and no images of its own, as a data set of the Hub does."""
    tables = False
    for place, _, names in os.walk(folder):
        endings = {ending_of(name) for name in names if not name.startswith(".")}
        if endings & set(image_endings()):
            return False
        tables = tables or bool(endings & {".parquet", ".arrow"})
        if place.count(os.sep) - folder.count(os.sep) > 2:
            break
    return tables


def _missing(folder: str) -> str:
    path = Path(folder)
    text = f"--images {folder}: there is no such folder"
    try:
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1, cutoff=0.6)
    except OSError:
        near = []
        parent = next((one for one in path.parents if one.is_dir()), None)
        text += f"; of this path there is {parent}" if parent else ""
    if near:
        return f"{text}; did you mean {path.parent / near[0]}?"
    if "/" in folder and not folder.startswith((".", "/", "~")) and folder.count("/") == 1:
        text += f"; a data set of the Hub: hfcontrast train photos/simclr data.path={folder}"
    return text
