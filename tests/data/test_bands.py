"""Images of any number of channels: every layout of a file gives the same bytes, and what has others is refused with both numbers."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from hfcontrast.data import ImageReader
from hfcontrast.data.augment.color import ColorAugmentation
from hfcontrast.data.augment.crops import CropCutter
from hfcontrast.data.augment.definition import cut_crop, shrunk
from hfcontrast.data.augment.draws import draw_views
from hfcontrast.data.bands import bands_of, decode_bands
from hfcontrast.data.cache import DecodedRows
from hfcontrast.data.decode import UnreadableImage, decode_image
from hfcontrast.data.duplicates import hashes_of, near_duplicates
from hfcontrast.view import View

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 8), dtype=np.uint8)
MANY = 10**6


def tiff(pixels, **options) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **{"photometric": "minisblack", **options})
    return buffer.getvalue()


def png(mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[..., :4], "RGBA").convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [2, 4, 5, 8])
def test_interleaved_channels_planes_and_pages_are_read_alike(channels):
    pixels = PIXELS[..., :channels]
    planes = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    for data in (tiff(pixels, planarconfig="contig"), tiff(planes, planarconfig="separate"), tiff(planes)):
        assert np.array_equal(decode_bands(data, channels, MANY), pixels)
        with pytest.raises(UnreadableImage, match=f"has {channels} channels, and data.channels is 6"):
            decode_bands(data, 6, MANY)
        with pytest.raises(UnreadableImage, match="16 x 12 pixels are more than"):
            decode_bands(data, channels, 100)


def test_values_of_more_than_8_bits_are_those_of_a_window():
    deep = PIXELS.astype(np.uint16) * 257
    assert np.array_equal(decode_bands(tiff(deep, planarconfig="contig"), 8, MANY), PIXELS)
    low, high = 1000.0, 21000.0
    expected = np.clip(np.rint((deep - low) / (high - low) * 255), 0, 255)
    assert np.abs(decode_bands(tiff(deep, planarconfig="contig"), 8, MANY, (low, high)) - expected).max() <= 1
    assert np.array_equal(decode_bands(tiff((PIXELS / 255).astype(np.float32), planarconfig="contig"), 8, MANY), PIXELS)


def test_what_pillow_reads_needs_no_other_package():
    assert np.array_equal(decode_bands(png("RGBA"), 4, MANY), PIXELS[..., :4])
    assert decode_bands(png("LA"), 2, MANY).shape == (12, 16, 2)
    assert np.array_equal(decode_bands(png("L"), 1, MANY)[..., 0], np.asarray(Image.open(io.BytesIO(png("L")))))
    assert ImageReader().image({"bytes": png("RGBA"), "path": None}).mode == "RGB"  # as ever: transparency on white
    assert ImageReader(channels=4).pixels(png("RGBA")).shape == (12, 16, 4)
    with pytest.raises(UnreadableImage, match="has 3 channels"):
        decode_bands(png("RGB"), 4, MANY)
    with pytest.raises(UnreadableImage, match="cannot be decoded"):
        decode_bands(png("RGB")[:50], 4, MANY)


def test_only_channels_that_are_no_colors_are_seen():
    assert [bands_of(png(mode)) for mode in ("L", "LA", "RGB", "RGBA")] == [None] * 4
    assert bands_of(b"II*\0") is None
    for count, photometric, extra, expected in (
        (8, "minisblack", None, 8),
        (4, "rgb", ["unassalpha"], None),
        (4, "rgb", ["unspecified"], 4),
        (2, "minisblack", ["unassalpha"], None),
        (2, "minisblack", None, 2),
    ):
        made = tiff(PIXELS[..., :count], photometric=photometric, planarconfig="contig", extrasamples=extra)
        assert bands_of(made) == expected, (count, photometric, extra)
    with pytest.raises(UnreadableImage, match="a TIFF of 8 channels"):
        decode_image(tiff(PIXELS, planarconfig="contig"))


def test_views_of_each_channel_are_those_that_it_would_have_alone():
    view = View(
        count=2, size=8, vertical_flip=0.5, jitter=1.0, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1, sobel=1.0
    )
    view = view.without_color()
    assert (view.saturation, view.hue, view.grayscale, view.sobel, view.brightness) == (0, 0, 0, 0, 0.5)
    cutter = CropCutter((view,), 8)
    buffers = cutter.allocate(1)
    draws = draw_views((view,), 0, 0, np.array([3]), np.array([12]), np.array([16]))
    cutter.cut([PIXELS], draws, buffers, 0)
    drawn = draws["pixel_values"]
    for channel in range(8):
        alone = np.repeat(PIXELS[..., channel : channel + 1], 3, axis=2)
        for number in range(2):
            expected = cut_crop(alone, drawn.boxes[0, number].tolist(), 8, "bicubic", *drawn.flips[0, number].tolist())
            assert np.array_equal(buffers["pixel_values"][0, number, ..., channel], expected[..., 0])
    mean, std = [0.1 * one for one in range(8)], [0.2] * 8
    batch = {"pixel_values": buffers["pixel_values"], "pixel_values_color": torch.from_numpy(drawn.color)}
    found = ColorAugmentation((view,), mean, std)(batch, "cpu")["pixel_values"]
    assert found.shape == (1, 2, 8, 8, 8)
    assert "8 channels" in ColorAugmentation((view,), mean, std).describe("cpu")
    values = found[0] * 0.2 + found.new_tensor(mean).view(8, 1, 1)
    assert values.min() >= -1e-6 and values.max() <= 1 + 1e-6


def test_a_cache_and_hashes_take_any_number_of_channels():
    cache = DecodedRows(2, 10_000, channels=8)
    cache.put(1, PIXELS)
    assert np.array_equal(cache.get(1), PIXELS) and cache.get(0) is None
    large = np.random.default_rng(1).integers(0, 256, (40, 40, 8), dtype=np.uint8)
    other = large.copy()
    other[..., 7] = 0
    hashes = hashes_of([large, large.copy(), other])
    assert near_duplicates(hashes[1:2], hashes[:1]).all() and hashes[0, 0] != hashes[2, 0]


def test_noise_squares_and_blur_take_any_number_of_channels():
    view = View(size=8, jitter=0.0, noise=1.0, cutout=1.0, blur=1.0, solarize=1.0)
    cutter = CropCutter((view,), 5)
    buffers = cutter.allocate(2)
    draws = draw_views((view,), 0, 0, np.array([3, 4]), np.array([12, 12]), np.array([16, 16]))
    cutter.cut([PIXELS[..., :5]] * 2, draws, buffers, 0)
    buffers["pixel_values_color"] = torch.from_numpy(draws["pixel_values"].color)
    found = ColorAugmentation((view,), [0.5] * 5, [0.2] * 5)(buffers, "cpu")["pixel_values"]
    assert found.shape == (2, 1, 5, 8, 8) and found.isfinite().all() and (found == 0).all(2).any()


def test_images_of_any_channels_are_made_smaller_alike():
    pixels = np.random.default_rng(2).integers(0, 256, (60, 90, 6), dtype=np.uint8)
    found = shrunk(pixels, 40)
    assert found.shape == (33, 49, 6)
    assert np.array_equal(found[..., :3], shrunk(np.ascontiguousarray(pixels[..., :3]), 40))
    assert shrunk(pixels, None) is pixels and shrunk(pixels, 74) is pixels
