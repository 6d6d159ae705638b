"""What each operation of the augmentation does to one image: the definition that the executions are tested against.

Crops are those of torchvision's ``resized_crop`` on bytes: torch's own antialiased resize, whose fixed-point weights are Pillow's.
Color operations are those of torchvision's v2 functional operations on float images, here in double precision and written for
reading; the executions compute them for whole batches.

Noise is that of torchvision's ``gaussian_noise`` with random numbers that depend on the crop's key and the pixel alone; cutout is that of
DeVries and Taylor (2017, arXiv:1708.04552), zeros after the normalization; Sobel filters are those of DeepCluster (Caron et al., 2018,
arXiv:1807.05520), which SimCLR studies too, with these deviations: gray weighs the colors as everywhere here instead of alike, gradients
point to the right and down instead of to the left and up, edge pixels are repeated beyond the edges instead of zeros, and the two gradients are two of
three channels in 0..1, so that an encoder of color images takes them.

Deviation from torchvision: the kernel of the blur reaches ``ceil(4 sigma)`` pixels to each side (at most the crop's
side less one) instead of a fixed size; what is cut off weighs less than 1e-4.
"""

import colorsys
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

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
)

GRAY_WEIGHTS = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale
MULTIPLIERS = (0x7FEB352D, 0x846CA68B)  # of the hash that noise is made of
# The operators behind F.interpolate(antialias=True) without its checks, which take longer than a crop of 32 pixels.
_RESIZE = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.default,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.default,
}


def cut_crop(
    image: np.ndarray, box: Sequence[int], size: int, mode: str, flip_horizontally: bool, flip_vertically: bool
) -> Tensor:
    """Cuts one box out of an image and resizes it as ``torchvision.transforms.v2.functional.resized_crop`` does.

    Args:
        image: (H, W, C) uint8.
        box: Top, left, height, width in pixels.
        size: Side of the result in pixels.
        mode: ``bilinear`` or ``bicubic``.
        flip_horizontally: Whether the result is mirrored left to right.
        flip_vertically: Whether the result is mirrored top to bottom.

    Returns:
        (size, size, C) uint8.
    """
    top, left, height, width = box
    crop = torch.from_numpy(image[top : top + height, left : left + width])
    # (1, 3, h, w) in channels-last memory takes the vectorized uint8 kernel, with fixed-point weights like Pillow's.
    pixels = _RESIZE[mode](crop[None].permute(0, 3, 1, 2), [size, size], False, None, None)
    if flip_horizontally:
        pixels = pixels.flip(-1)
    if flip_vertically:
        pixels = pixels.flip(-2)
    return pixels[0].permute(1, 2, 0)


def rotate(pixels: np.ndarray, turns: int) -> np.ndarray:
    """Turns a crop (size, size, 3) counterclockwise by so many times 90 degrees, into new memory."""
    return np.ascontiguousarray(np.rot90(pixels, turns))


def shrunk(image: np.ndarray, largest: int | None) -> np.ndarray:
    """An image made smaller, antialiased, where it has more pixels than a square of ``largest`` pixels a side.

    Args:
        image: (H, W, C) uint8.
        largest: The side; None leaves the image as it is.

    Returns:
        (H, W, C) uint8, with the same ratio of its sides up to a pixel.
    """
    height, width = image.shape[:2]
    if largest is None or height * width <= largest**2:
        return image
    factor = largest / math.sqrt(height * width)
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    # Pillow's resize is that of crops, on one thread and without Python's lock: many images are decoded at once.
    colors = image.shape[2] == len(GRAY_WEIGHTS)
    parts = [image] if colors else [image[..., channel] for channel in range(image.shape[2])]
    resized = [np.asarray(Image.fromarray(part).resize(size, Image.Resampling.BICUBIC)) for part in parts]
    return resized[0].copy() if colors else np.stack(resized, axis=-1)


def augment_color(pixels: Tensor, parameters: Sequence[float], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """All color operations on one crop, in their order, and normalization.

    Args:
        pixels: (H, W, 3) uint8.
        parameters: (14,), columns as in ``draws``.
        mean: Mean of the normalization for each channel, for values in 0..1.
        std: Standard deviation of the normalization for each channel.

    Returns:
        (3, H, W) float64.
    """
    image = pixels.permute(2, 0, 1).double() / 255
    for column in JITTER_ORDERS[int(parameters[ORDER])]:
        if parameters[column] != NEUTRAL[column]:
            image = _JITTER[column](image, float(parameters[column]))
    if parameters[GRAYSCALE]:
        image = to_gray(image).expand_as(image)
    if parameters[SOBEL]:
        image = sobel(image)
    if parameters[BLUR]:
        image = blur(image, float(parameters[BLUR]))
    if parameters[NOISE]:
        image = (image + float(parameters[NOISE]) * noise(int(parameters[NOISE_KEY]), *image.shape[1:])).clamp(0, 1)
    image = torch.where(image >= float(parameters[SOLARIZE]), 1 - image, image)
    image = (image - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    if parameters[CUTOUT_SIZE]:
        y, x, side = (int(parameters[column]) for column in (CUTOUT_Y, CUTOUT_X, CUTOUT_SIZE))
        image = cut_out(image, y, x, side)
    return image


def change_brightness(image: Tensor, factor: float) -> Tensor:
    """Towards black (factor 0) or away from it, clipped; images are (3, H, W) in 0..1."""
    return (factor * image).clamp(0, 1)


def change_contrast(image: Tensor, factor: float) -> Tensor:
    """Towards the mean gray of the image (factor 0) or away from it, clipped."""
    return (factor * image + (1 - factor) * to_gray(image).mean()).clamp(0, 1)


def change_saturation(image: Tensor, factor: float) -> Tensor:
    """Each pixel towards its gray (factor 0) or away from it, clipped."""
    return (factor * image + (1 - factor) * to_gray(image)).clamp(0, 1)


def shift_hue(image: Tensor, shift: float) -> Tensor:
    """Turns the hue of each pixel in HSV; the shift is in turns."""
    shifted = torch.empty_like(image)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[:, y, x].tolist())
            shifted[:, y, x] = torch.tensor(
                colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value), dtype=image.dtype
            )
    return shifted


def to_gray(image: Tensor) -> Tensor:
    """(1, H, W) gray levels."""
    return sum(weight * channel for weight, channel in zip(GRAY_WEIGHTS, image))[None]


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur along the rows and the columns, with the image mirrored at its edges (the edge pixel once)."""
    side = min(image.shape[1:])
    reach = min(math.ceil(np.float32(4) * np.float32(sigma)), side - 1)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=image.dtype) / sigma) ** 2)
    weights = weights / weights.sum()
    for axis in (1, 2):
        positions = torch.arange(-reach, image.shape[axis] + reach).abs()
        last = image.shape[axis] - 1
        padded = image.index_select(axis, torch.where(positions > last, 2 * last - positions, positions))
        image = (padded.unfold(axis, len(weights), 1) * weights).sum(-1)
    return image


def sobel(image: Tensor) -> Tensor:
    """The gradients of the gray image to the right and down, (3, H, W) in 0..1: half plus an eighth of each; blue is half."""
    gray = to_gray(image)[0]
    padded = torch.nn.functional.pad(gray[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    height, width = gray.shape
    result = torch.full_like(image, 0.5)
    for y, weight in enumerate((1, 2, 1)):  # 3 lines, smoothed along the other axis
        rows, columns = padded[y : y + height], padded[:, y : y + width]
        result[0] += weight * (rows[:, 2:] - rows[:, :-2]) / 8
        result[1] += weight * (columns[2:] - columns[:-2]) / 8
    return result


def noise(key: int, height: int, width: int) -> Tensor:
    """(3, H, W) numbers of the standard normal distribution: Box and Muller's, of two hashes of the key and the place in (H, W, 3)."""
    places = np.arange(height * width * 3, dtype=np.uint64).reshape(height, width, 3)
    start = hashed(np.uint64(key))
    first, second = (hashed((2 * places + half) ^ start) >> np.uint64(8) for half in (np.uint64(0), np.uint64(1)))
    radius = np.sqrt(-2 * np.log((first + 1) / 2**24))  # of a uniform number in (0, 1]
    return torch.from_numpy(radius * np.cos(2 * np.pi * second / 2**24)).permute(2, 0, 1)


def hashed(values: np.ndarray | np.uint64) -> np.ndarray | np.uint64:
    """A hash of 32 bits (C. Wellons, 2018, "lowbias32")."""
    mask = np.uint64(2**32 - 1)
    values = values ^ (values >> np.uint64(16))
    values = values * np.uint64(MULTIPLIERS[0]) & mask
    values = values ^ (values >> np.uint64(15))
    values = values * np.uint64(MULTIPLIERS[1]) & mask
    return values ^ (values >> np.uint64(16))


def cut_out(image: Tensor, y: int, x: int, side: int) -> Tensor:
    """A copy with zeros in a square around a pixel, as far as it lies within the image."""
    image, top, left = image.clone(), y - side // 2, x - side // 2
    image[:, max(top, 0) : top + side, max(left, 0) : left + side] = 0
    return image


_JITTER = {BRIGHTNESS: change_brightness, CONTRAST: change_contrast, SATURATION: change_saturation, HUE: shift_hue}
