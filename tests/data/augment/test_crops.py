"""Crops equal torchvision's, land at their places and are mirrored as drawn."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from hfcontrast.data.augment import crops
from hfcontrast.data.augment.crops import CropCutter
from hfcontrast.data.augment.definition import cut_crop
from hfcontrast.data.augment.draws import draw_views
from hfcontrast.data.augment.execution import loops
from hfcontrast.view import View


def image_of(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height)
    small = torch.from_numpy(rng.integers(0, 256, (3, 9, 9), dtype=np.uint8))
    noise = rng.integers(-20, 20, (height, width, 3))
    smooth = functional.resize(small, [height, width], antialias=True).permute(1, 2, 0).numpy()
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("box", [[3, 5, 70, 100], [0, 0, 20, 9], [10, 60, 32, 32], [0, 0, 90, 130], [44, 7, 1, 1]])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (True, True)])
def test_equals_torchvision(mode, box, flips):
    image = image_of(90, 130)
    expected = functional.resized_crop(
        torch.from_numpy(image).permute(2, 0, 1), *box, [32, 32], InterpolationMode(mode), antialias=True
    )
    if flips[0]:
        expected = functional.horizontal_flip(expected)
    if flips[1]:
        expected = functional.vertical_flip(expected)
    crop = cut_crop(image, box, 32, mode, *flips)
    assert crop.dtype == torch.uint8 and crop.shape == (32, 32, 3)
    assert (crop.int() - expected.permute(1, 2, 0).int()).abs().max() <= 1


@pytest.mark.skipif(loops("crops") is None, reason="needs numba")
@pytest.mark.parametrize("size", [1, 7, 16, 32])
def test_small_crops_are_the_same_bit_for_bit(size):
    """Whether numba is installed, or a crop counts as small, changes no pixel."""
    image = image_of(90, 130)
    rng = np.random.default_rng(size)
    for number in range(100):
        height, width = int(rng.integers(1, 91)), int(rng.integers(1, 131))
        height, width = (size, width) if number % 10 == 0 else (height, size) if number % 10 == 1 else (height, width)
        box = [int(rng.integers(0, 91 - height)), int(rng.integers(0, 131 - width)), height, width]
        mode, flips = ("bilinear", "bicubic")[number % 2], [bool(flip) for flip in rng.integers(0, 2, 2)]
        out = np.zeros((size, size, 3), dtype=np.uint8)
        loops("crops").cut_small(image, *box, mode == "bicubic", *flips, out)
        assert np.array_equal(out, cut_crop(image, box, size, mode, *flips).numpy()), (box, mode)


def test_crops_are_rotated_behind_their_flips():
    view = View(size=16, rotate=1.0)
    images = [image_of(40, 50)] * 12
    draws = draw_views((view,), 0, 0, np.arange(12), np.full(12, 40), np.full(12, 50))
    upright = {"pixel_values": draws["pixel_values"]._replace(turns=np.zeros((12, 1), dtype=np.int64))}
    cutter = CropCutter((view,))
    turned, before = cutter.allocate(12), cutter.allocate(12)
    cutter.cut(images, draws, turned, 0)
    cutter.cut(images, upright, before, 0)
    turns = draws["pixel_values"].turns[:, 0].tolist()
    assert set(turns) == {1, 2, 3}
    for after, plain, number in zip(turned["pixel_values"][:, 0], before["pixel_values"][:, 0], turns):
        expected = functional.rotate(plain.permute(2, 0, 1), 90 * number)
        assert torch.equal(after.permute(2, 0, 1), expected)


def test_cutter_fills_its_rows_only():
    views = (
        View(name="a", count=2, size=24),
        View(name="b", key="local_pixel_values", size=8, interpolation="bilinear"),
    )
    images = [image_of(40, 50), image_of(30, 20)]
    draws = draw_views(views, 0, 0, np.array([5, 6]), np.array([40, 30]), np.array([50, 20]))
    cutter = CropCutter(views)
    buffers = cutter.allocate(4)
    for buffer in buffers.values():
        buffer.fill_(77)
    cutter.cut(images, draws, buffers, 1)
    assert buffers["pixel_values"].shape == (4, 2, 24, 24, 3) and buffers["local_pixel_values"].shape == (4, 1, 8, 8, 3)
    for buffer in buffers.values():
        assert (buffer[0] == 77).all() and (buffer[3] == 77).all()
    for key, mode, size in (("pixel_values", "bicubic", 24), ("local_pixel_values", "bilinear", 8)):
        for row, image in enumerate(images):
            for number in range(draws[key].boxes.shape[1]):
                box, flips = draws[key].boxes[row, number].tolist(), draws[key].flips[row, number].tolist()
                assert torch.equal(buffers[key][row + 1, number], cut_crop(image, box, size, mode, *flips))


def test_crops_are_cut_on_one_thread(monkeypatch):
    """On busy cores the threads of a crop of 0.1 ms wait for each other; those of the training are as many as before."""
    seen = []
    monkeypatch.setattr(crops, "cut_crop", lambda *given: seen.append(torch.get_num_threads()) or cut_crop(*given))
    view = View(size=24)
    draws = draw_views((view,), 0, 0, np.array([5]), np.array([400]), np.array([500]))
    cutter = CropCutter((view,))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cutter.cut([image_of(400, 500)], draws, cutter.allocate(1), 0)
        assert torch.get_num_threads() == 2 and set(seen) == {1}
    finally:
        torch.set_num_threads(before)
