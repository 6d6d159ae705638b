"""Every kind of image file comes out as upright RGB; what cannot be read is an UnreadableImage that says why."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from hfcontrast.data import ImageReader, read_bytes
from hfcontrast.data.decode import UnreadableImage, decode_image, decode_pixels
from tests.data.conftest import png

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def save(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(orientation, kind):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((40, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = save(image, kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert expected.size == ((40, 24) if orientation < 5 else (24, 40))
    assert np.array_equal(decode_pixels(data), np.asarray(expected))


def test_grays_and_palettes():
    expected = np.repeat(RAMP[..., None], 3, -1)
    gray = Image.fromarray(RAMP)
    assert np.array_equal(decode_pixels(save(gray, "PNG")), expected)
    assert np.array_equal(decode_pixels(save(gray.convert("P"), "PNG")), expected)
    assert np.array_equal(decode_pixels(save(gray.convert("P"), "GIF")), expected)
    black_and_white = decode_pixels(save(gray.point(lambda v: 255 * (v > 99)).convert("1"), "PNG"))
    assert np.array_equal(black_and_white, np.where(expected > 99, 255, 0))


def test_deep_grays_keep_their_range():
    deep = RAMP.astype(np.uint16) * 257
    expected = np.repeat(RAMP[..., None], 3, -1)
    assert np.array_equal(decode_pixels(save(Image.fromarray(deep), "PNG")), expected)
    assert np.array_equal(decode_pixels(save(Image.fromarray(deep), "TIFF")), expected)
    assert decode_pixels(save(Image.fromarray(np.full((2, 2), 200, dtype=np.uint16)), "PNG")).max() == 1  # dark it is
    assert np.array_equal(decode_pixels(save(Image.fromarray(deep.astype(np.int32)), "TIFF")), expected)
    assert np.array_equal(decode_pixels(save(Image.fromarray(RAMP.astype(np.float32) / 255), "TIFF")), expected)


def test_infinite_values_do_not_darken_the_others():
    values = RAMP.astype(np.float32) / 255
    values[0, :3] = np.nan, np.inf, -np.inf
    expected = np.where(np.isfinite(values), RAMP, 0)
    assert np.array_equal(decode_pixels(save(Image.fromarray(values), "TIFF"))[..., 0], expected)


def test_cmyk():
    cmyk = Image.fromarray(np.repeat(RAMP[..., None], 3, -1)).convert("CMYK")
    expected = np.asarray(cmyk.convert("RGB")).astype(int)
    assert np.abs(decode_pixels(save(cmyk, "TIFF")) - expected).max() == 0
    assert np.abs(decode_pixels(save(cmyk, "JPEG", quality=100)) - expected).max() <= 4


def test_transparency_is_composited_on_white():
    color = np.full((4, 4, 4), (200, 0, 100, 255), dtype=np.uint8)
    color[0, :, 3], color[1, :, 3] = 0, 128
    for data in (png(color), save(Image.fromarray(color), "WEBP", lossless=True, exact=True)):
        pixels = decode_pixels(data)
        assert (pixels[0] == 255).all() and (pixels[2] == (200, 0, 100)).all()
        assert np.abs(pixels[1].astype(int) - (227, 127, 177)).max() <= 1
    gray = decode_pixels(save(Image.fromarray(color).convert("LA"), "PNG"))
    assert (gray[0] == 255).all() and gray[2].max() < 100
    palette = Image.fromarray(RAMP).convert("P")
    pixels = decode_pixels(save(palette, "PNG", transparency=int(palette.getpixel((1, 0)))))
    assert (pixels[0, 1] == 255).all() and pixels[0, 0].max() == 0
    key = decode_pixels(save(Image.fromarray(color[..., :3]), "PNG", transparency=(200, 0, 100)))
    assert (key == 255).all()


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    pixels = decode_pixels(save(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert (pixels == (255, 0, 0)).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_files_are_unreadable(kind):
    data = save(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)), kind)
    assert decode_image(data).size == (40, 40)
    for damaged in (data[: len(data) // 2], data[:20], b"", b"no image", b"\0" * 100 + data[100:]):
        with pytest.raises(UnreadableImage, match="cannot be decoded"):
            decode_image(damaged)


def test_pixels_can_be_written_to():
    pixels = decode_pixels(png(np.repeat(RAMP[..., None], 3, -1)))
    pixels[0] = 1
    assert pixels.shape == (6, 8, 3) and pixels.dtype == np.uint8


def test_where_bytes_come_from(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"abc")
    assert read_bytes(b"xyz") == b"xyz"
    assert read_bytes({"bytes": b"xyz", "path": str(file)}) == b"xyz"
    assert read_bytes({"bytes": None, "path": str(file)}) == b"abc"
    assert ImageReader(addresses=True).read({"bytes": None, "path": file.as_uri()}) == b"abc"
    with pytest.raises(UnreadableImage, match="cannot be read.*missing.png"):
        read_bytes({"bytes": None, "path": str(tmp_path / "missing.png")})
    for nothing in (None, {"bytes": None, "path": None}):
        with pytest.raises(UnreadableImage, match="holds no image"):
            read_bytes(nothing)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "pip install pillow-heif"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "pip install pillow-jxl-plugin"),
        (b"\xff\x0a" + bytes(8), "pip install pillow-jxl-plugin"),
        (b"no image at all", "no format that Pillow knows$"),
    ],
)
def test_a_format_of_a_plugin_names_its_package(data, told, monkeypatch):
    monkeypatch.setattr(Image, "open", refuse)  # as where the plugin is not installed
    with pytest.raises(UnreadableImage, match=told):
        decode_image(data)


def refuse(file):
    raise UnidentifiedImageError("cannot identify image file")


def test_a_window_keeps_the_depth_of_deep_grays_and_leaves_others_alone():
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    deep = save(Image.fromarray(values), "PNG")
    assert len(np.unique(decode_pixels(deep))) == 17  # of the whole 16 bits, a camera of 12 has a sixteenth
    whole = np.asarray(decode_image(deep, window=(0, 4095)))[..., 0]
    assert len(np.unique(whole)) == 256 and whole[0, 0] == 0 and whole[-1, -1] == 255
    inner = np.asarray(decode_image(deep, window=(1000, 2000)))[..., 0].ravel()
    assert inner[1000] == 0 and inner[1500] in (127, 128) and (inner[2000:] == 255).all() and not inner[:1000].any()
    color = save(Image.fromarray(np.full((4, 4, 3), 77, np.uint8)), "PNG")
    assert (np.asarray(decode_image(color, window=(0, 10))) == 77).all()


def test_a_tiff_of_many_bands_is_refused_with_their_number():
    tags = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 122, 277: 5, 278: 2, 279: 20}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    data = b"II*\0" + struct.pack("<I", 8) + directory + bytes(20)
    with pytest.raises(UnreadableImage, match="a TIFF of 5 channels, of which gray and color are read"):
        decode_image(data)
