"""Photometry: color jitter, grayscale, blur, solarization and normalization of whole batches, on the training device.

Each crop has parameters of its own (drawn by ``randomness.draw_views``, shipped in the batch), and the maths are those
of torchvision's v2 functional operations on float images. Two back ends compute the same: plain torch for any device
(this file), and compiled loops for the CPU (``photometry_cpu``), taken where numba is installed.

Deviation from torchvision: the kernel of the blur reaches ``ceil(4 sigma)`` pixels to each side (at most the crop's
side less one) instead of a fixed size; what is cut off weighs less than 1e-4.
"""

from collections.abc import Sequence

import torch

from hfcontrast.data.augment import color_torch as photometry_torch
from hfcontrast.view import View

try:
    from hfcontrast.data.augment import color_cpu as photometry_cpu
except ImportError:  # numba is optional
    photometry_cpu = None

SUFFIX = "_photometry"


class Photometry:
    """Turns the uint8 crops of a batch into distorted, normalized floats on the training device.

    Args:
        views: The views of the method; they name the batch keys.
        mean: Mean of the normalization for each channel, for values in 0..1.
        std: Standard deviation of the normalization for each channel.
        channels_last: Whether the result lies in memory as (B, V, H, W, C), so that ``flatten(0, 1)`` is a
            channels-last batch without a copy; else as (B, V, C, H, W). The shape is the same.
        backend: ``auto`` takes the compiled loops on the CPU where numba is installed; ``torch`` and ``numba`` insist.

    Raises:
        ImportError: ``backend="numba"`` and numba cannot be imported.
        ValueError: The backend is unknown, or mean and std do not have three positive values.
    """

    def __init__(
        self,
        views: tuple[View, ...],
        mean: Sequence[float],
        std: Sequence[float],
        channels_last: bool = True,
        backend: str = "auto",
    ):
        if backend not in ("auto", "torch", "numba"):
            raise ValueError(f"backend is {backend!r}, expected auto, torch or numba")
        if backend == "numba" and photometry_cpu is None:
            raise ImportError("the numba back end needs numba: pip install numba, or take backend='torch'")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean {mean} and std {std} must have three values each, std above 0")
        self.keys = tuple(dict.fromkeys(view.key for view in views))
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.channels_last = channels_last
        self.backend = backend

    def __call__(self, batch: dict, device: torch.device | str) -> dict:
        """Distorts and normalizes the crops and moves the batch.

        Args:
            batch: What a loader yields: for each key uint8 (B, V, H, W, 3) and, under ``{key}_photometry``, float32
                (B, V, 8) parameters, both on the CPU; other tensors are only moved, other values passed on.
            device: Where the method runs.

        Returns:
            A new batch: for each key float32 (B, V, 3, H, W) on the device; no parameters.
        """
        device = torch.device(device)
        result = {}
        for key, value in batch.items():
            if key in self.keys:
                result[key] = self._distort(value, batch[key + SUFFIX], device)
            elif key.removesuffix(SUFFIX) in self.keys:
                continue
            else:
                result[key] = value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        return result

    def _distort(self, pixels: torch.Tensor, parameters: torch.Tensor, device: torch.device) -> torch.Tensor:
        rows, views = pixels.shape[:2]
        pixels, parameters = pixels.flatten(0, 1), parameters.flatten(0, 1)
        compiled = photometry_cpu is not None and device.type == "cpu" and self.backend != "torch"
        distort = photometry_cpu.distort if compiled else photometry_torch.distort
        result = distort(pixels, parameters, self.mean, self.std, self.channels_last, device)
        return result.unflatten(0, (rows, views))
