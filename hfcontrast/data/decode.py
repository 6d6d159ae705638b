"""Decoding: the encoded bytes of one image to RGB pixels, upright, whatever the file's mode."""

import io

import fsspec
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

DAMAGE = b"hfcontrast: damaged archive: "  # how the image of a row begins that stands for what an archive has lost
_ORIENTATION = 0x0112  # EXIF tag
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


class UnreadableRow(Exception):
    """A row cannot be trained on; the message says why, for the one who repairs the data."""


class UnreadableImage(UnreadableRow):
    """An image cannot be opened or decoded."""


def read_bytes(image: dict | bytes) -> bytes:
    """The encoded bytes of an undecoded image value of ``datasets`` (``Image(decode=False)``).

    Args:
        image: ``{"bytes": ..., "path": ...}`` where either may be None, or the bytes themselves. A path is a local
            one or any address that fsspec opens.

    Raises:
        UnreadableImage: There is neither bytes nor a path, or the path cannot be read.
    """
    if isinstance(image, bytes):
        return image
    if image is None or (image.get("bytes") is None and not image.get("path")):
        raise UnreadableImage("the row holds no image")
    if image.get("bytes") is not None:
        return image["bytes"]
    path = image["path"]
    try:
        if "://" in path:
            with fsspec.open(path, "rb") as file:
                return file.read()
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"cannot be read: {error}") from error


def decode_image(data: bytes) -> Image.Image:
    """Decodes an image file to RGB, turned upright after its EXIF orientation.

    Transparent pixels are composited on white, 16-bit greys are scaled to 8 bits, of an animation the first frame is
    taken.

    Args:
        data: The bytes of the file, in any format that Pillow reads.

    Raises:
        UnreadableImage: The bytes are no image, or a damaged one.
    """
    if data.startswith(DAMAGE):
        raise UnreadableImage(data.removeprefix(DAMAGE).decode(errors="replace"))
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        return _to_rgb(_upright(image))
    except UnidentifiedImageError as error:  # whose message has an address in memory
        raise UnreadableImage("cannot be decoded: no format that Pillow knows") from error
    except Exception as error:  # Pillow raises anything on damaged files: OSError, SyntaxError, ...
        raise UnreadableImage(f"cannot be decoded: {type(error).__name__}: {error}") from error


def decode_pixels(data: bytes) -> np.ndarray:
    """As ``decode_image``, as a writable (H, W, 3) uint8 array."""
    return np.array(decode_image(data))


def _upright(image: Image.Image) -> Image.Image:
    # Reading the EXIF block is slow, so only where there can be one.
    may_be_turned = image.format in ("TIFF", "MPO") or any("exif" in str(k) or "xmp" in str(k) for k in image.info)
    if may_be_turned and image.getexif().get(_ORIENTATION, 1) != 1:
        return ImageOps.exif_transpose(image)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _DEEP_MODES:
        return Image.fromarray(_to_8_bits(image)).convert("RGB")
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> np.ndarray:
    """Greys of 16 or 32 bits, or floats; the last two by the range that their values show they are in."""
    pixels = np.nan_to_num(np.asarray(image).astype(np.float64))
    top = pixels.max(initial=0)
    if image.mode.startswith("I;16"):
        scale = 255 / 65535
    elif image.mode == "F" and top <= 1:
        scale = 255.0
    elif top <= 255:
        scale = 1.0
    else:
        scale = 255 / max(top, 65535)
    return np.clip(np.rint(pixels * scale), 0, 255).astype(np.uint8)
