"""Images of any number of channels, such as multi-band TIFF of satellites and microscopes, as bytes of each channel."""

import io

import numpy as np
from PIL import Image, TiffImagePlugin

from hfcontrast.data.decode import UnreadableImage, Window, check_size, open_image, to_8_bits, upright

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PHOTOMETRIC, _SAMPLES, _EXTRA = 262, 277, 338  # TIFF tags
_RGB, _UNSPECIFIED = 2, 0  # of the first and of the last of them


def decode_bands(data: bytes, channels: int, max_pixels: int, window: Window | None = None) -> np.ndarray:
    """Decodes an image file of so many channels, none of which is taken for a color or for transparency.

    TIFF is read by ``tifffile`` (the extra ``bands``) where Pillow does not know the channels: interleaved, in planes, or a page each.

    Args:
        data: The bytes of the file.
        channels: The channels that it is to have.
        max_pixels: Width times height at most.
        window: As in :func:`~.decode.decode_image`, of channels of more than 8 bits.

    Returns:
        (H, W, channels) uint8.

    Raises:
        UnreadableImage: The bytes are no image of so many channels.
    """
    try:
        pixels = (
            _tiff(data, max_pixels)
            if data.startswith(_TIFF) and channels != 1
            else _by_pillow(data, channels, max_pixels)
        )
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:  # Pillow and tifffile raise anything on damaged files
        raise UnreadableImage(f"cannot be decoded: {type(error).__name__}: {error}") from error
    if pixels.shape[2] != channels:
        raise UnreadableImage(f"has {pixels.shape[2]} channels, and data.channels is {channels}")
    return pixels if pixels.dtype == np.uint8 else to_8_bits(pixels, window, sixteen=pixels.dtype == np.uint16)


def raw_bands(data: bytes, max_pixels: int) -> np.ndarray:
    """(H, W, C) of a TIFF's own type, see :func:`decode_bands`."""
    return _tiff(data, max_pixels)


def bands_of(data: bytes) -> int | None:
    """How many channels a TIFF says to have where these are neither gray nor color, with or without transparency; None for anything else."""
    if not data.startswith(_TIFF):
        return None
    try:
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        samples, extra = int(tags.get(_SAMPLES, 1)), tags.get(_EXTRA) or (_UNSPECIFIED,)
        colors = 3 if tags.get(_PHOTOMETRIC) == _RGB else 1
    except Exception:  # a damaged one, which the decoder names
        return None
    ordinary = samples == colors or (samples == colors + 1 and extra[0] != _UNSPECIFIED)
    return None if ordinary or (samples == 3 and colors == 1) else samples


def _tiff(data: bytes, max_pixels: int) -> np.ndarray:
    try:
        from tifffile import TiffFile
    except ImportError as error:
        raise UnreadableImage(
            "cannot be decoded: TIFF of other channels than gray and color is read by another package: pip install 'hfcontrast[bands]'"
        ) from error
    with TiffFile(io.BytesIO(data)) as file:
        series = file.series[0]
        axes, shape = series.axes, series.shape
        if "Y" not in axes or "X" not in axes or len(axes) > 3:
            raise UnreadableImage(f"a TIFF with the axes {axes}, of which rows, columns and channels are read")
        y, x = axes.index("Y"), axes.index("X")
        check_size(shape[x], shape[y], max_pixels)
        pixels = series.asarray()
    pixels = pixels[..., None] if len(axes) == 2 else np.moveaxis(pixels, 3 - y - x, 2)
    return np.ascontiguousarray(pixels)


def _by_pillow(data: bytes, channels: int, max_pixels: int) -> np.ndarray:
    image = open_image(data, max_pixels)
    check_size(*image.size, max_pixels)
    image.load()
    image = upright(image)
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "1" or (channels == 1 and image.mode in ("LA", "RGB", "RGBA")):
        image = image.convert("L")
    pixels = np.array(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def size_of(image: Image.Image | np.ndarray) -> tuple[int, int]:
    """Width and height of an image as readers give it: of Pillow, or (H, W, C) uint8 where it has another number of channels than three."""
    return (image.shape[1], image.shape[0]) if isinstance(image, np.ndarray) else image.size
