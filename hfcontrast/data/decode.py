"""Decoding: the encoded bytes of one image to RGB pixels, upright, for any mode of the file."""

import io
import math

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

DAMAGE = b"hfcontrast: damaged archive: "  # how the image of a row begins that stands for what an archive has lost
MAX_PIXELS = 89_478_485  # 256 MiB as RGB; from here on Pillow warns of decompression bombs
_MAX_RATIO = 100  # resizing the short side of a line of pixels to that of a view would make an image of gigabytes
_ORIENTATION = 0x0112  # EXIF tag
_SAMPLES_PER_PIXEL = 277  # TIFF tag
# How files begin that plugins of Pillow open: HEIC behind the size of its first box, JPEG XL bare or in boxes.
_HEIC = tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"))
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class UnreadableRow(Exception):
    """A row cannot be trained on; the message says why, for the one who repairs the data."""


class UnreadableImage(UnreadableRow):
    """An image cannot be opened or decoded."""


Window = tuple[float, float]


def decode_image(
    data: bytes, max_pixels: int = MAX_PIXELS, detail: float | None = None, window: Window | None = None
) -> Image.Image:
    """Decodes an image file to RGB, turned upright after its EXIF orientation.

    Transparent pixels are composited on white, 16-bit grays are scaled to 8 bits, of an animation the first frame is
    taken.

    Args:
        data: The bytes of the file, in any format that Pillow reads.
        max_pixels: Width times height at most.
        detail: How many times smaller the image may be decoded, divided by the square root of its pixels, where the format allows
            it (JPEG, by 2, 4 or 8); None decodes it as it is.
        window: The values of grays of more than 8 bits that become black and white, with all others between or clipped; None: the
            range of the format.

    Raises:
        UnreadableImage: The bytes are not an image, are a damaged one, a larger one, or one more than 100 times as long as wide.
    """
    if data.startswith(DAMAGE):
        raise UnreadableImage(data.removeprefix(DAMAGE).decode(errors="replace"))
    try:
        image = open_image(data, max_pixels)
        check_size(*image.size, max_pixels)
        if (factor := draft_factor(image, detail)) > 1:
            image.draft(None, (image.width // factor, image.height // factor))
        image.load()
        return _to_rgb(upright(image), window)
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:  # of twice as many pixels
        raise UnreadableImage(f"more pixels than data.max_pixels, {max_pixels:,}: {error}") from error
    except UnidentifiedImageError as error:  # whose message has an address in memory
        package = "pillow-heif" if data[4:].startswith(_HEIC) else "pillow-jxl-plugin" if data.startswith(_JXL) else ""
        hint = f" without another package: pip install {package}" if package else _many_channels(data)
        raise UnreadableImage(f"cannot be decoded: no format that Pillow knows{hint}") from error
    except Exception as error:  # Pillow raises anything on damaged files: OSError, SyntaxError, ...
        raise UnreadableImage(f"cannot be decoded: {type(error).__name__}: {error}") from error


def decode_pixels(data: bytes) -> np.ndarray:
    """As ``decode_image``, as a writable (H, W, 3) uint8 array."""
    return np.array(decode_image(data))


def draft_factor(image: Image.Image, detail: float | None) -> int:
    """By how much an opened image is decoded smaller (see ``decode_image``)."""
    if detail is None or not isinstance(image, JpegImageFile):
        return 1
    allowed = math.sqrt(image.width * image.height) * detail
    return next((factor for factor in (8, 4, 2) if factor <= allowed), 1)


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Opens an image without reading its pixels."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow's own limit, which a recipe has raised
    return Image.open(io.BytesIO(data))


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuses images that are too large or too long.

    Raises:
        UnreadableImage: They are.
    """
    if width * height > max_pixels:
        raise UnreadableImage(f"{width} x {height} pixels are more than data.max_pixels, {max_pixels:,}")
    if max(width, height) > _MAX_RATIO * min(width, height):
        raise UnreadableImage(f"{width} x {height} pixels: more than {_MAX_RATIO} times as long as wide")


def _many_channels(data: bytes) -> str:
    """That a TIFF has more channels than are read; empty for anything else."""
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        channels = int(tags.get(_SAMPLES_PER_PIXEL, 1))
    except Exception:  # no TIFF, or a damaged one
        return ""
    return (
        f": a TIFF of {channels} channels, of which gray and color are read, with or without transparency; the setting channels of data reads all of them"
        if channels > 4
        else ""
    )


def upright(image: Image.Image) -> Image.Image:
    """The image turned after its EXIF orientation."""
    # Reading the EXIF block is slow, so only where there can be one.
    may_be_turned = image.format in ("TIFF", "MPO") or any("exif" in str(k) or "xmp" in str(k) for k in image.info)
    if may_be_turned and image.getexif().get(_ORIENTATION, 1) != 1:
        return ImageOps.exif_transpose(image)
    return image


def _to_rgb(image: Image.Image, window: Window | None) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _DEEP_MODES:
        sixteen = image.mode.startswith("I;16")
        return Image.fromarray(to_8_bits(np.asarray(image), window, sixteen)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def to_8_bits(values: np.ndarray, window: Window | None, sixteen: bool) -> np.ndarray:
    """Values of 16 or 32 bits, or floats, as bytes; without a window the last two by the range that their values show they are in.

    Args:
        values: Of any shape.
        window: The values that become 0 and 255.
        sixteen: Whether they are of 16 bits.
    """
    whole = not np.issubdtype(values.dtype, np.floating)
    pixels = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
    if window is not None:
        return np.clip(np.rint((pixels - window[0]) * (255 / (window[1] - window[0]))), 0, 255).astype(np.uint8)
    top = pixels.max(initial=0)
    if sixteen:
        scale = 255 / 65535
    elif not whole and top <= 1:
        scale = 255.0
    elif top <= 255:
        scale = 1.0
    else:
        scale = 255 / max(top, 65535)
    return np.clip(np.rint(pixels * scale), 0, 255).astype(np.uint8)
