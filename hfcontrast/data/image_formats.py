"""Which files are images: by their ending, and where the ending says nothing, by how they begin.

Pillow opens what its own plugins read; plugins of other packages (HEIC, JPEG XL) are registered here where they are installed, in
every process that imports this module.
"""

import functools
import importlib
from contextlib import suppress

from PIL import Image

# Package, and the function that registers its formats; without one, importing it does.
_PLUGINS = (("pillow_heif", "register_heif_opener"), ("pillow_avif", None), ("pillow_jxl", None))
PACKAGES = {".heic": "pillow-heif", ".heif": "pillow-heif", ".hif": "pillow-heif", ".jxl": "pillow-jxl-plugin"}

_MANY_IMAGES = frozenset({".h5", ".hdf", ".hdf5"})  # Pillow has an ending for them, but no decoder
# Never opened to look: what usually lies beside images, and photographs in raw formats, of which Pillow finds a thumbnail.
_OTHER_ENDINGS = (
    ".txt .text .caption .csv .tsv .json .jsonl .ndjson .xml .html .htm .md .rst .yaml .yml .toml .ini .log .py .ipynb .pdf .svg "
    ".npy .npz .mat .pkl .pt .pth .safetensors .bin .parquet .arrow .feather .lance .db .sqlite .mp4 .avi .mov .mkv .webm .mp3 .wav "
    ".zip .tar .gz .tgz .bz2 .xz .zst .7z .rar .h5 .hdf .hdf5 .cr2 .cr3 .nef .arw .dng .orf .rw2 .pef .srw .raf .part "
    ".crdownload .tmp .lock"
)
_OTHER = frozenset(_OTHER_ENDINGS.split())
_SURE = frozenset({"AVIF", "GIF", "HEIF", "JPEG", "JPEG2000", "JXL", "PNG", "PSD", "QOI", "TIFF", "WEBP"})
# Their headers can be read without the decoder that their pixels need.
_WITHOUT_PIXELS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
_BEGINNING = 32  # bytes that tell a format


def register_plugins() -> None:
    """Lets Pillow open the formats of the plugins that are installed."""
    for package, function in _PLUGINS:
        with suppress(ImportError, OSError):  # the latter where a library of the plugin's is missing
            plugin = importlib.import_module(package)
            if function:
                getattr(plugin, function)()


@functools.cache
def image_endings() -> frozenset[str]:
    """The endings of files that Pillow opens, lower case, with the dot."""
    Image.init()
    return frozenset(ending for ending, name in Image.EXTENSION.items() if name in Image.OPEN) - _MANY_IMAGES


def ending_of(name: str) -> str:
    """The ending of a file's name, lower case, with the dot; empty where it has none."""
    stem, dot, ending = name.rpartition(".")
    return dot + ending.lower() if stem else ""


def begins_as_image(path: str) -> bool:
    """Whether a file whose ending is no image's is one all the same.

    Only its first bytes are read, but for formats whose signature is short, whose header is. Files with endings that belong to
    something else are not opened.
    """
    if ending_of(path.rpartition("/")[2]) in _OTHER:
        return False
    try:
        with open(path, "rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError:
        return False
    found = [name for name in _formats() if _accepts(name, beginning)]
    return any(name in _SURE for name in found) or (bool(found) and _opens(path, found))


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that have a signature, and can be decoded."""
    Image.init()
    return tuple(name for name in Image.ID if Image.OPEN[name][1] is not None and name not in _WITHOUT_PIXELS)


def _accepts(name: str, beginning: bytes) -> bool:
    accept = Image.OPEN[name][1]
    try:
        found = accept is not None and accept(beginning)
        return bool(found) and not isinstance(found, str)  # the latter says why its decoder is missing
    except Exception:  # of a beginning that is shorter than the signature
        return False


def _opens(path: str, formats: list[str]) -> bool:
    try:
        with Image.open(path, formats=formats):
            return True
    except Exception:  # Pillow's readers raise anything
        return False


register_plugins()
