"""Color augmentation in plain torch, for any device: whole batches, each crop with parameters of its own.

The parameters are known on the CPU, so what concerns which crop is decided there and the device is never waited for.
"""

import numpy as np
import torch

from hfcontrast.data.augment import gpu_filters
from hfcontrast.data.augment.definition import GRAY_WEIGHTS, hashed
from hfcontrast.data.augment.draws import (
    BLUR,
    CONTRAST,
    CUTOUT_SIZE,
    CUTOUT_X,
    CUTOUT_Y,
    GRAYSCALE,
    HUE,
    JITTER_ORDERS,
    NOISE,
    NOISE_KEY,
    ORDER,
    SATURATION,
    SOBEL,
    SOLARIZE,
)


def augment_color(
    pixels: torch.Tensor,
    parameters: torch.Tensor,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    channels_last: bool,
    device: torch.device,
) -> torch.Tensor:
    """Applies all operations to a batch of crops.

    Args:
        pixels: (N, H, W, 3) uint8.
        parameters: (N, 14) float32 on the CPU, columns as in ``draws``.
        mean: Mean of the normalization.
        std: Standard deviation of the normalization.
        channels_last: Memory format of the result.
        device: Where to compute.

    Returns:
        (N, 3, H, W) float32 on the device.
    """
    plan = _Plan(parameters.numpy(), device)
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
        images = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        for stage in plan.jitter:
            images = _jitter_stage(images, *stage)
        if plan.gray is not None:
            images = torch.where(plan.gray, _to_gray(images), images)
        if plan.filtered is not None:
            images.index_copy_(0, plan.filtered, gpu_filters.sobel(_to_gray(images.index_select(0, plan.filtered))))
        if plan.blurred is not None:
            images.index_copy_(0, plan.blurred, _blur(images.index_select(0, plan.blurred), plan.sigma))
        if plan.noisy is not None:
            images.index_copy_(0, plan.noisy, gpu_filters.add_noise(images.index_select(0, plan.noisy), *plan.noise))
        if plan.threshold is not None:
            images = torch.where(images >= plan.threshold, 1 - images, images)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        shift = plan.constant(mean)
        images = (images - shift) / plan.constant(std)
        if plan.squares is not None:
            images = gpu_filters.cut_out(images, *plan.squares)
        return images.contiguous(memory_format=memory_format)


class _Plan:
    """Which operation concerns which crops, worked out on the CPU and sent to the device in one piece per type."""

    def __init__(self, parameters: np.ndarray, device: torch.device):
        self.device = device
        self.jitter = [stage for number in range(4) if (stage := self._stage(parameters, number))]
        gray, blurred = parameters[:, GRAYSCALE] > 0, np.flatnonzero(parameters[:, BLUR] > 0)
        solarized = parameters[:, SOLARIZE] <= 1
        self.gray = self._send(gray)[:, None, None, None] if gray.any() else None
        self.blurred = self._send(blurred) if len(blurred) else None
        self.sigma = self._send(parameters[blurred, BLUR])[:, None, None] if len(blurred) else None
        self.threshold = self._column(parameters[:, SOLARIZE]) if solarized.any() else None
        filtered, noisy = np.flatnonzero(parameters[:, SOBEL] > 0), np.flatnonzero(parameters[:, NOISE] > 0)
        self.filtered = self._send(filtered) if len(filtered) else None
        self.noisy = self._send(noisy) if len(noisy) else None
        if len(noisy):
            starts = np.asarray(hashed(parameters[noisy, NOISE_KEY].astype(np.uint64))).astype(np.int64)
            self.noise = self._send(starts)[:, None, None, None], self._column(parameters[noisy, NOISE])
        squares = (parameters[:, column] for column in (CUTOUT_Y, CUTOUT_X, CUTOUT_SIZE))
        self.squares = tuple(map(self._column, squares)) if parameters[:, CUTOUT_SIZE].any() else None

    def _send(self, values: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self.device.type == "cuda":  # from pinned memory the copy does not make the CPU wait
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def _column(self, values: np.ndarray) -> torch.Tensor:
        return self._send(values.astype(np.float32))[:, None, None, None]

    def constant(self, values: tuple[float, ...]) -> torch.Tensor:
        return self._send(np.array(values, dtype=np.float32))[None, :, None, None]

    def _stage(self, parameters: np.ndarray, number: int) -> tuple | None:
        """One stage of the jitter: brightness, contrast and saturation as one blend, hue on the crops it concerns."""
        operation = JITTER_ORDERS[parameters[:, ORDER].astype(int), number]
        factor = np.take_along_axis(parameters[:, : HUE + 1], operation[:, None], 1)[:, 0]
        hued = np.flatnonzero((operation == HUE) & (factor != 0))
        factor = np.where(operation == HUE, 1, factor)
        blended = factor != 1
        if not blended.any() and not len(hued):
            return None
        blend = None
        if blended.any():
            to_mean, to_gray = (np.where(operation == op, 1 - factor, 0) for op in (CONTRAST, SATURATION))
            blend = tuple(self._column(values) for values in (factor, to_mean, to_gray))
        hue = (self._send(hued), self._column(parameters[hued, HUE])) if len(hued) else None
        return blend, hue


def _jitter_stage(images: torch.Tensor, blend: tuple | None, hue: tuple | None) -> torch.Tensor:
    if blend is not None:  # towards black, the image's mean gray or the pixel's gray
        factor, to_mean, to_gray = blend
        gray = _to_gray(images)
        target = to_mean * gray.mean((-3, -2, -1), keepdim=True) + to_gray * gray
        images = (images * factor).add_(target).clamp_(0, 1)
    if hue is not None:
        concerned, shift = hue
        images.index_copy_(0, concerned, _shift_hue(images.index_select(0, concerned), shift))
    return images


def _to_gray(images: torch.Tensor) -> torch.Tensor:
    if images.shape[1] != 3:  # not colors: the mean of the channels
        return images.mean(1, keepdim=True)
    red, green, blue = images.unbind(1)
    return (GRAY_WEIGHTS[0] * red + GRAY_WEIGHTS[1] * green).add_(GRAY_WEIGHTS[2] * blue).unsqueeze(1)


def _shift_hue(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Through HSV and back; the way back is written as one formula for the three channels."""
    red, green, blue = images.unbind(1)
    top = images.amax(1)
    spread = top - images.amin(1)
    divisor = torch.where(spread == 0, 1, spread)
    sextant = torch.where(
        top == red,
        (green - blue) / divisor,
        torch.where(top == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sextant = sextant + 6 * shift[:, 0]
    channels = []
    for offset in (5, 3, 1):
        turn = torch.remainder(sextant + offset, 6)
        channels.append(top - spread * torch.minimum(turn, 4 - turn).clamp(0, 1))
    return torch.stack(channels, 1)


def _blur(images: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur as two products with a matrix for each crop that has the kernel and the reflection in it."""
    rows = _blur_matrix(images.shape[-2], sigma)
    columns = _blur_matrix(images.shape[-1], sigma) if images.shape[-1] != images.shape[-2] else rows
    images = torch.matmul(images, columns.transpose(-1, -2)[:, None])
    return torch.matmul(rows[:, None], images)


def _blur_matrix(size: int, sigma: torch.Tensor) -> torch.Tensor:
    """(N, size, size): output pixel by input pixel; sigma is (N, 1, 1)."""
    position = torch.arange(size, device=sigma.device, dtype=torch.float32)
    output, source = position[:, None], position[None, :]
    reach = torch.ceil(4 * sigma).clamp(max=size - 1)

    def weight(distance: torch.Tensor) -> torch.Tensor:
        return torch.where(distance.abs() <= reach, torch.exp(-0.5 * (distance / sigma) ** 2), 0)

    matrix = weight(source - output)
    matrix = matrix + torch.where(source > 0, weight(-source - output), 0)
    matrix = matrix + torch.where(source < size - 1, weight(2 * (size - 1) - source - output), 0)
    return matrix / matrix.sum(-1, keepdim=True)
