"""The definition and both executions compute what torchvision's v2 functional operations do on float images, one crop at a time."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torchvision.transforms.v2 import functional

from hfcontrast.data.augment.color import ColorAugmentation
from hfcontrast.data.augment.definition import augment_color, noise
from hfcontrast.data.augment.draws import (
    BLUR,
    BRIGHTNESS,
    CONTRAST,
    CUTOUT_SIZE,
    CUTOUT_X,
    CUTOUT_Y,
    GRAYSCALE,
    HUE,
    JITTER_ORDERS,
    NEUTRAL,
    NOISE,
    NOISE_KEY,
    ORDER,
    SATURATION,
    SOBEL,
    SOLARIZE,
    draw_views,
)
from hfcontrast.data.augment.execution import describe, loops
from hfcontrast.view import View

NUMBA = pytest.param("numba", marks=pytest.mark.skipif(loops("color") is None, reason="needs numba"))
BACKENDS = ["torch", NUMBA]
FORMS = ["definition", *BACKENDS]
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
ADJUST = {
    BRIGHTNESS: functional.adjust_brightness,
    CONTRAST: functional.adjust_contrast,
    SATURATION: functional.adjust_saturation,
    HUE: functional.adjust_hue,
}


def torchvision(pixels: torch.Tensor, values: np.ndarray, mean, std) -> torch.Tensor:
    """One crop (H, W, 3) uint8 through torchvision, by its parameters."""
    image = functional.to_dtype(pixels.permute(2, 0, 1), torch.float32, scale=True)
    for column in JITTER_ORDERS[int(values[ORDER])]:
        if values[column] != NEUTRAL[column]:
            image = ADJUST[column](image, float(values[column]))
    if values[GRAYSCALE]:
        image = functional.rgb_to_grayscale(image, num_output_channels=3)
    if values[SOBEL]:
        image = gradients(functional.rgb_to_grayscale(image)[0].numpy())
    if sigma := float(values[BLUR]):
        reach = min(math.ceil(4 * np.float32(sigma)), image.shape[-1] - 1)
        image = functional.gaussian_blur(image, [2 * reach + 1] * 2, [sigma] * 2)
    if sigma := float(values[NOISE]):
        with pytest.MonkeyPatch.context() as patch:
            field = noise(int(values[NOISE_KEY]), *image.shape[1:]).float()
            patch.setattr(torch, "randn_like", lambda _: field)  # where torchvision draws its own
            image = functional.gaussian_noise(image, 0.0, sigma, clip=True)
    if values[SOLARIZE] <= 1:
        image = functional.solarize(image, float(values[SOLARIZE]))
    image = functional.normalize(image, list(mean), list(std))
    if side := int(values[CUTOUT_SIZE]):
        # As in the authors' code, where sides are even: github.com/uoguelph-mlrg/Cutout, after the normalization.
        (y, x), (height, width) = (int(values[CUTOUT_Y]), int(values[CUTOUT_X])), image.shape[1:]
        top, bottom = np.clip(y - side // 2, 0, height), np.clip(y + side // 2, 0, height)
        left, right = np.clip(x - side // 2, 0, width), np.clip(x + side // 2, 0, width)
        image = functional.erase(image, top, left, bottom - top, right - left, torch.zeros(3, 1, 1))
    return image


def gradients(gray: np.ndarray) -> torch.Tensor:
    """SciPy's Sobel filters of a gray image, as two of three channels in 0..1."""
    across, down = (ndimage.sobel(gray, axis, mode="nearest") for axis in (1, 0))
    return torch.from_numpy(np.stack([across / 8, down / 8, np.zeros_like(gray)]) + np.float32(0.5))


def crops(count: int, side: int = 20) -> torch.Tensor:
    """All kinds of colors, with pure ones, black, white and grays among them."""
    pixels = torch.randint(0, 256, (count, 1, side, side, 3), dtype=torch.uint8)
    special = torch.tensor(
        [0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 255, 255, 0], dtype=torch.uint8
    )
    pixels[:, 0, 0, :7] = special.view(7, 3)
    return pixels


def run(pixels: torch.Tensor, values: np.ndarray, backend: str, mean=PLAIN[0], std=PLAIN[1], **options) -> torch.Tensor:
    if backend == "definition":
        made = [augment_color(p[0], v, mean, std) for p, v in zip(pixels, values)]
        return torch.stack(made).float()
    augmentation = ColorAugmentation((View(size=pixels.shape[2]),), mean, std, backend=backend, **options)
    batch = {"pixel_values": pixels, "pixel_values_color": torch.from_numpy(values[:, None])}
    return augmentation(batch, "cpu")["pixel_values"][:, 0]


def check(pixels: torch.Tensor, values: np.ndarray, backend: str, tolerance: float, mean=PLAIN[0], std=PLAIN[1]):
    result = run(pixels, values, backend, mean, std)
    expected = torch.stack([torchvision(p[0], v, mean, std) for p, v in zip(pixels, values)])
    assert result.dtype == torch.float32 and result.shape == expected.shape
    assert (result - expected).abs().max() < tolerance


OPERATIONS = {
    "nothing": {},
    "brightness": {BRIGHTNESS: [0.0, 0.3, 1.8]},
    "contrast": {CONTRAST: [0.0, 0.3, 1.8]},
    "saturation": {SATURATION: [0.0, 0.3, 1.8]},
    "hue": {HUE: [-0.5, -0.13, 0.5, 0.31, 1e-3]},
    "grayscale": {GRAYSCALE: [1.0]},
    "blur": {BLUR: [0.1, 0.25, 0.26, 0.7, 1.0, 2.0, 3.1, 8.0]},
    "sobel": {SOBEL: [1.0]},
    "noise": {NOISE: [0.02, 0.1, 0.5]},
    "cutout": {CUTOUT_SIZE: [2, 10, 20, 60]},
    "solarize": {SOLARIZE: [128 / 255 - 1e-6, 1 / 255 - 1e-6, 255 / 255 - 1e-6, -1e-6]},
}


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation(operation, backend):
    settings = [(column, value) for column, values in OPERATIONS[operation].items() for value in values] or [(ORDER, 0)]
    values = np.tile(NEUTRAL, (len(settings), 1))
    values[:, NOISE_KEY], values[:, [CUTOUT_Y, CUTOUT_X]] = 2**24 - 1, [2, 15]
    for row, (column, value) in enumerate(settings):
        values[row, column] = value
    check(crops(len(settings)), values, backend, 2e-5)


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("side", [2, 3, 5, 33])
def test_every_size(side, backend):
    """Also those on which the blur's kernel is wider than the crop."""
    values = np.tile(NEUTRAL, (4, 1))
    values[:, BLUR] = [0.1, 0.6, 1.4, 2.0]
    values[:, CONTRAST] = 1.3
    pixels = torch.randint(0, 256, (4, 1, side, side, 3), dtype=torch.uint8)
    check(pixels, values, backend, 2e-5)


@pytest.mark.parametrize("backend", FORMS)
def test_the_jitter_in_every_order(backend):
    values = np.tile(NEUTRAL, (24, 1))
    values[:, :4] = [1.6, 0.5, 1.7, 0.17]
    values[:, ORDER] = np.arange(24)
    check(crops(24), values, backend, 2e-5)


@pytest.mark.parametrize("backend", FORMS)
def test_the_whole_chain_as_drawn(backend):
    # Without solarization: a pixel that lies on its threshold within the last bit may fall on either side.
    view = View(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, grayscale=0.3, blur=0.5)
    sides = np.full(64, 20)
    values = draw_views((view,), 0, 0, np.arange(64), sides, sides)["pixel_values"].color[:, 0]
    check(crops(64), values, backend, 1e-4, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_whole_chain_with_solarization(backend):
    values = np.tile(NEUTRAL, (32, 1))
    rng = np.random.default_rng(0)
    values[:, :3], values[:, HUE] = rng.uniform(0.2, 1.8, (32, 3)), rng.uniform(-0.2, 0.2, 32)
    values[:, ORDER], values[::3, GRAYSCALE], values[::2, BLUR] = rng.integers(0, 24, 32), 1, 1.3
    values[:, SOLARIZE] = 128 / 255 - 1e-6
    pixels = crops(32)
    result = run(pixels, values, backend)
    expected = torch.stack([torchvision(p[0], v, *PLAIN) for p, v in zip(pixels, values)])
    assert ((result - expected).abs() > 1e-4).float().mean() < 1e-3


@pytest.mark.parametrize("backend", FORMS)
@pytest.mark.parametrize("side", [2, 3, 17])
def test_filters_noise_and_cutout_together(side, backend):
    values = np.tile(NEUTRAL, (24, 1))
    rng = np.random.default_rng(side)
    values[::2, SOBEL], values[::3, GRAYSCALE], values[::4, BLUR] = 1, 1, 1.1
    values[:, NOISE], values[:, NOISE_KEY] = rng.uniform(0.01, 0.3, 24), rng.integers(0, 2**24, 24)
    values[:, CUTOUT_Y : CUTOUT_X + 1] = rng.integers(0, side, (24, 2))
    values[:, CUTOUT_SIZE] = 2 * rng.integers(0, side, 24)
    values[:, CONTRAST] = 1.2
    pixels = torch.randint(0, 256, (24, 1, side, side, 3), dtype=torch.uint8)
    check(pixels, values, backend, 1e-4, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    original = run(pixels, np.tile(NEUTRAL, (24, 1)), backend)
    assert not torch.equal(run(pixels, values, backend), original)


def test_noise_is_normal_and_depends_on_key_pixel_and_color():
    fields = np.stack([noise(key, 40, 30).numpy() for key in (0, 1, 2**24 - 1)])
    assert fields.shape == (3, 3, 40, 30)
    for field in fields:
        assert stats.kstest(field.ravel(), "norm").pvalue > 1e-3
    several = np.concatenate([fields.reshape(9, -1), fields[0, :, ::-1].reshape(3, -1)])
    several = np.concatenate([several, np.roll(fields[0], 1, axis=-1).reshape(3, -1)])
    assert np.abs(np.corrcoef(several) - np.eye(15)).max() < 0.12  # of 1,200 numbers: four standard deviations


@pytest.mark.parametrize("backend", FORMS)
def test_flat_images_have_no_gradients_and_cutout_is_the_mean_color(backend):
    values = np.tile(NEUTRAL, (2, 1))
    values[0, SOBEL], values[1, [CUTOUT_Y, CUTOUT_X, CUTOUT_SIZE]] = 1, [0, 7, 6]
    mean = (0.4, 0.5, 0.6)
    result = run(torch.full((2, 1, 8, 8, 3), 200, dtype=torch.uint8), values, backend, mean)
    assert torch.allclose(result[0], 0.5 - torch.tensor(mean).view(3, 1, 1).expand(3, 8, 8), atol=1e-6)
    cut = (result[1] == 0).all(0)
    assert cut[:3, 4:].all() and cut.sum() == 12  # rows -3 to 2, columns 4 to 9


def test_close_to_torchvision_on_bytes():
    """What users know from uint8 images, up to torchvision's rounding between the operations."""
    pixels = crops(1)
    values = NEUTRAL[None].copy()
    values[0, [BRIGHTNESS, SATURATION, CONTRAST]] = [1.2, 0.7, 0.8]
    image = functional.adjust_brightness(pixels[0, 0].permute(2, 0, 1), 1.2)
    image = functional.adjust_saturation(functional.adjust_contrast(image, 0.8), 0.7)
    assert (run(pixels, values, "auto")[0] * 255 - image.float()).abs().max() < 4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_format_and_other_entries(backend, channels_last):
    views = (View(name="a", size=8), View(name="b", key="local_pixel_values", size=4, count=2))
    batch = {
        "pixel_values": torch.randint(0, 256, (6, 1, 8, 8, 3), dtype=torch.uint8),
        "pixel_values_color": torch.from_numpy(np.tile(NEUTRAL, (6, 1, 1))),
        "local_pixel_values": torch.randint(0, 256, (6, 2, 4, 4, 3), dtype=torch.uint8),
        "local_pixel_values_color": torch.from_numpy(np.tile(NEUTRAL, (6, 2, 1))),
        "labels": torch.arange(6),
        "caption": ["a"] * 6,
    }
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    result = ColorAugmentation(views, mean, std, channels_last, backend)(batch, "cpu")
    assert set(result) == {"pixel_values", "local_pixel_values", "labels", "caption"} and len(batch) == 6
    assert torch.equal(result["labels"], batch["labels"]) and result["caption"] == batch["caption"]
    for key, shape in (("pixel_values", (6, 1, 3, 8, 8)), ("local_pixel_values", (6, 2, 3, 4, 4))):
        assert result[key].shape == shape and not result[key].requires_grad
        flat = result[key].flatten(0, 1)
        assert flat.data_ptr() == result[key].data_ptr()  # a view
        assert flat.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        plain = batch[key].permute(0, 1, 4, 2, 3) / 255
        expected = (plain - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        assert torch.allclose(result[key], expected, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_result_depends_on_neither_batch_nor_threads(backend):
    color = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "grayscale": 0.3}
    view = View(**color, sobel=0.3, blur=0.5, noise=0.5, solarize=0.2, cutout=0.5)
    sides = np.full(33, 20)
    values = draw_views((view,), 0, 0, np.arange(33), sides, sides)["pixel_values"].color[:, 0]
    pixels = crops(33)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run(pixels, values, backend)
        torch.set_num_threads(3)
        assert torch.allclose(run(pixels, values, backend), one, atol=1e-6)
    finally:
        torch.set_num_threads(before)
    parts = [run(pixels[part], values[part], backend) for part in (slice(0, 7), slice(7, 33))]
    assert torch.allclose(torch.cat(parts), one, atol=1e-5)


@pytest.mark.skipif(loops("color") is None, reason="needs numba")
def test_without_numba_plain_torch_runs_and_it_is_reported(monkeypatch):
    values = np.tile(NEUTRAL, (3, 1))
    values[:, HUE] = 0.2
    pixels = crops(3)
    expected = run(pixels, values, "torch")
    assert "crops and color by loops compiled by numba" in describe("cpu")
    assert describe("cuda").endswith("color by plain torch on cuda")
    monkeypatch.setattr("hfcontrast.data.augment.color.loops", lambda _: None)
    monkeypatch.setattr("hfcontrast.data.augment.execution.loops", lambda _: None)
    assert describe("cpu").startswith("augmentation: plain torch, as numba cannot be imported")
    assert torch.equal(run(pixels, values, "auto"), expected)
    with pytest.raises(ImportError, match="pip install numba"):
        run(pixels, values, "numba")


@pytest.mark.parametrize("settings", [{"backend": "cuda"}, {"mean": (0.5,)}, {"std": (1.0, 0.0, 1.0)}])
def test_wrong_settings(settings):
    with pytest.raises(ValueError):
        ColorAugmentation((View(),), **({"mean": PLAIN[0], "std": PLAIN[1]} | settings))
