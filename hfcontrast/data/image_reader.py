"""Reading images of rows: which files and addresses may be opened, how large an image may be, and at what size it is decoded."""

import io
import math
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import fsspec
import huggingface_hub.constants
import numpy as np
from PIL import Image

from hfcontrast.data.augment.definition import shrunk
from hfcontrast.data.bands import decode_bands
from hfcontrast.data.decode import MAX_PIXELS, UnreadableImage, decode_image, draft_factor
from hfcontrast.data.shown import shown
from hfcontrast.paths import existing_part, is_address, local_path
from hfcontrast.view import View

_ARCHIVES = ("zip", "tar", "gzip", "bz2", "xz", "lz4", "zstd")  # a path in one of them: zip://PATH::ADDRESS
_SPARE = 2  # how many times larger than its view a crop of an image decoded at a reduced size still is: then it looks the same
_KEPT = (
    1.5  # the same of images that are made smaller: a compromise of their memory and of what a second resizing blurs
)
_SECONDS, _SECONDS_WITHOUT_ANSWER = 300, 20  # for one address
_PATTERN = "*?[{"
_SHORTEST, _LONG = 40, 200  # characters of an image in base64, and from when on any text of its alphabet is one
_BEGINNINGS = ("data:", "iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")  # of PNG, JPEG, GIF and WebP
_BASE64 = re.compile(r"(data:[\w/+.-]*;base64,)?[A-Za-z0-9+/_\s-]*={0,2}\s*")


@dataclass(frozen=True)
class ImageReader:
    """How the images of a data set are read.

    Rows may hold names of files and addresses instead of images. Which of them are opened does not follow from what a row says:
    a data set from elsewhere could name any file of this machine, or let it call any address.

    Attributes:
        max_pixels: Pixels of an image at most, width times height; a larger one counts as unreadable.
        addresses: Whether any address that a row names is opened.
        local: Whether files of this machine are: the data set itself is on it.
        places: What the addresses and files of the data set itself begin with; they are opened always.
        window: The values of grays of more than 8 bits that become black and white; None: the range of the format.
        largest: Decoded images that training crops are cut from have no more pixels than a square of so many a side; None: as they are.
        channels: How many an image has; three: any image is made RGB.
        detail: The square root of an image's pixels times this is how many times smaller it may be decoded; None: not at all.
    """

    max_pixels: int = MAX_PIXELS
    addresses: bool = False
    local: bool = True
    places: tuple[str, ...] = ()
    detail: float | None = None
    window: tuple[float, float] | None = None
    channels: int = 3
    largest: int | None = None

    def read(self, image: dict | bytes | None) -> bytes:
        """The encoded bytes of an undecoded image value of ``datasets`` (``Image(decode=False)``).

        Args:
            image: ``{"bytes": ..., "path": ...}`` where either may be None, or the bytes themselves.

        Raises:
            UnreadableImage: There is neither, or the path may or can not be read.
        """
        if isinstance(image, bytes):
            return image
        if image is None or (image.get("bytes") is None and not image.get("path")):
            raise UnreadableImage("the row holds no image")
        if image.get("bytes") is not None:
            return image["bytes"]
        path = image["path"]
        if _is_base64(path):
            raise UnreadableImage("the row holds text that looks like base64, and no image: decode it to bytes")
        self._check(path)
        if "://" in path:
            return _read_address(path)
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or device could be read for ever
                raise UnreadableImage("cannot be read: it is not a regular file")
            with open(path, "rb") as file:
                return file.read()
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError) and not os.path.isabs(path)
            where = f", which is relative to the working directory, {os.getcwd()}" if missing else ""
            raise UnreadableImage(f"cannot be read: {str(error).replace(path, shown(path))}{where}") from error

    def image(self, value: dict | bytes | None) -> Any:
        """Reads and decodes an image: one of Pillow (see ``decode_image``), of other channels than three (H, W, C) uint8 (``decode_bands``).

        Raises:
            UnreadableImage: It cannot be read or decoded.
        """
        if self.channels != 3:
            return decode_bands(self.read(value), self.channels, self.max_pixels, self.window)
        return decode_image(self.read(value), self.max_pixels, self.detail, self.window)

    def pixels(self, value: dict | bytes | None) -> np.ndarray:
        """As ``image``, as a writable (H, W, C) uint8 array, no larger than ``largest``."""
        return shrunk(np.array(self.image(value)), self.largest)

    def size(self, value: dict | bytes | None) -> int:
        """Pixels that the decoded image has, by the file's header; 0 where it cannot be read."""
        try:
            if self.channels != 3:
                return self.pixels(value)[..., 0].size
            with Image.open(io.BytesIO(self.read(value))) as opened:
                pixels = opened.width * opened.height // draft_factor(opened, self.detail) ** 2
                return min(pixels, self.largest**2 if self.largest else pixels)
        except Exception:  # the decoder names unreadable rows later; Pillow's readers raise anything
            return 0

    def _check(self, path: str) -> None:
        *inner, last = path.split("::") if "://" in path else [path]
        local = "://" not in last
        own = os.path.abspath(last) if local else last
        known = any(own.startswith(place) for place in self.places) and not (not local and "/../" in own)
        archived = all(part.split("://")[0] in _ARCHIVES for part in inner)
        if self.addresses or (archived and (known or (local and self.local))):
            return
        what = "file of this machine" if local else "address"
        raise UnreadableImage(
            f"{shown(path)!r} is a{'n' * (not local)} {what} that is not part of the data set: not opened, unless data.open_addresses is true"
        )


def _read_address(address: str) -> bytes:
    """The bytes at an address of ``fsspec``, or in an archive.

    Raises:
        UnreadableImage: They cannot be read; of an address that does not answer, after some seconds.
    """
    options: dict[str, Any] = {}
    if address.startswith(("http://", "https://")):
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=_SECONDS, sock_connect=_SECONDS_WITHOUT_ANSWER, sock_read=_SECONDS_WITHOUT_ANSWER)
        options["client_kwargs"] = {"timeout": timeout}
    try:
        with fsspec.open(address, "rb", **options) as file:
            return file.read()
    except Exception as error:  # of any protocol's library, or of one that is not installed
        cause = error.__cause__ or error
        told = str(cause) or type(cause).__name__
        where = "" if address in told else f"{shown(address)}: "
        raise UnreadableImage(f"cannot be read: {where}{shown(told)}") from error


def _is_base64(text: str) -> bool:
    """Whether a text that is no file is the bytes of an image, in base64 or as a data URI."""
    if len(text) < _SHORTEST or not (len(text) > _LONG or text.startswith(_BEGINNINGS)):
        return False
    return _BASE64.fullmatch(text) is not None and not os.path.exists(text)


def read_bytes(image: dict | bytes | None) -> bytes:
    """The encoded bytes of an image value; files of this machine are opened, addresses are not (see ``ImageReader.read``).

    Raises:
        UnreadableImage: There are none.
    """
    return ImageReader().read(image)


def places_of(path: str, data_dir: str | None, data_files: Any) -> tuple[bool, tuple[str, ...]]:
    """Whether a data set is on this machine, and what the files and addresses begin with that are its own.

    Args:
        path: As in ``load_rows``, and so are the others.
    """
    named = [data_dir] if data_dir else []
    patterns = data_files.values() if isinstance(data_files, dict) else [data_files]
    for pattern in patterns:
        named += [pattern] if isinstance(pattern, str) else list(pattern or [])
    folder = local_path(path)
    hub = "/" in path and not os.path.exists(folder) and not path.startswith(("builtin/", "memory/"))
    if hub:
        named = []  # within the data set
    remote = hub or any("://" in name for name in named)
    places = [_beginning(name) for name in named]
    places += [f"hf://datasets/{path}@", f"hf://datasets/{path}/"] if hub else []
    places += [os.path.abspath(folder) + os.sep] if os.path.exists(folder) else []
    if remote:  # where datasets puts what it downloads
        caches = (datasets.config.HF_DATASETS_CACHE, huggingface_hub.constants.HF_HUB_CACHE)
        places += [os.path.abspath(cache) + os.sep for cache in caches]
    return not remote, tuple(places)


def _beginning(pattern: str) -> str:
    """The folder that a pattern, or a folder's name, is sure to be in."""
    pattern = pattern.split("::")[-1] if is_address(pattern) else pattern
    literal, rest = ("", pattern) if is_address(pattern) else existing_part(os.path.expanduser(pattern))
    end = min((rest.index(sign) for sign in _PATTERN if sign in rest), default=len(rest))
    fixed = os.path.join(literal, rest[:end]) if literal and rest else literal or rest[:end]
    if end < len(rest) or ("://" in fixed and "." in fixed.rsplit("/", 1)[-1]) or os.path.isfile(fixed):
        fixed = fixed.rpartition("/")[0] or "."
    return fixed.rstrip("/") + "/" if "://" in fixed else os.path.join(os.path.abspath(fixed), "")


def detail_of(views: Sequence[View]) -> float:
    """How many times smaller an image may be decoded for the smallest crops of all views, divided by the root of its pixels."""
    named = {view.name: view for view in views}
    crops = [(named[view.crop_of or view.name], view.size) for view in views]
    return min(
        math.sqrt(view.scale[0] * min(view.ratio[0], 1 / view.ratio[1], 1.0)) / (_SPARE * size) for view, size in crops
    )


def largest_of(views: Sequence[View]) -> int:
    """The side of a square of as many pixels as an image needs so that its smallest crops are one and a half times as large as their views."""
    return math.ceil(_KEPT / (_SPARE * detail_of(views)))
