"""Color augmentation of whole batches on the training device: jitter, grayscale, blur, solarization and normalization.

Each crop has parameters of its own (drawn by ``draws.draw_views``, shipped in the batch). What the operations are is in ``definition``;
here the execution is chosen: compiled loops on a CPU (``cpu_color``), plain torch on any device (``gpu``).
"""

from collections.abc import Sequence

import torch

from hfcontrast.data.augment import gpu
from hfcontrast.data.augment.draws import SUFFIX
from hfcontrast.data.augment.execution import describe, loops
from hfcontrast.view import View

__all__ = ["SUFFIX", "ColorAugmentation"]


class ColorAugmentation:
    """Turns the uint8 crops of a batch into augmented, normalized floats on the training device.

    Args:
        views: The views of the method; they name the batch keys.
        mean: Mean of the normalization for each channel, for values in 0..1.
        std: Standard deviation of the normalization for each channel.
        channels_last: Whether the result lies in memory as (B, V, H, W, C), so that ``flatten(0, 1)`` is a
            channels-last batch without a copy; else as (B, V, C, H, W). The shape is the same.
        backend: ``auto`` takes the compiled loops on the CPU where numba is installed; ``torch`` and ``numba`` insist.

    Raises:
        ImportError: ``backend="numba"`` and numba cannot be imported.
        ValueError: The backend is unknown, or mean and std do not have a value for each channel, std above 0.
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
        if backend == "numba" and loops("color") is None:
            raise ImportError("the numba back end needs numba: pip install numba, or take backend='torch'")
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean {mean} and std {std} must have a value for each channel, std above 0")
        self.keys = tuple(dict.fromkeys(view.key for view in views))
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.channels_last = channels_last
        self.backend = backend

    def __call__(self, batch: dict, device: torch.device | str) -> dict:
        """Augments and normalizes the crops and moves the batch.

        Args:
            batch: What a loader yields: for each key uint8 (B, V, H, W, 3) and, under ``{key}_color``, float32
                (B, V, 14) parameters, both on the CPU; other tensors are only moved, other values passed on.
            device: Where the method runs.

        Returns:
            A new batch: for each key float32 (B, V, 3, H, W) on the device; no parameters.
        """
        device = torch.device(device)
        result = {}
        for key, value in batch.items():
            if key in self.keys:
                result[key] = self._augment(value, batch[key + SUFFIX], device)
            elif key.removesuffix(SUFFIX) in self.keys:
                continue
            else:
                result[key] = value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        return result

    def describe(self, device: torch.device | str) -> str:
        """One line that says which form of the augmentation runs for a training on this device, and why."""
        if len(self.mean) != 3:
            return f"augmentation: plain torch, as images have {len(self.mean)} channels"
        return describe(torch.device(device).type, self.backend)

    def _augment(self, pixels: torch.Tensor, parameters: torch.Tensor, device: torch.device) -> torch.Tensor:
        rows, views = pixels.shape[:2]
        pixels, parameters = pixels.flatten(0, 1), parameters.flatten(0, 1)
        compiled = None
        if device.type == "cpu" and self.backend != "torch" and len(self.mean) == 3:
            compiled = loops("color")
        augment_color = (compiled or gpu).augment_color
        result = augment_color(pixels, parameters, self.mean, self.std, self.channels_last, device)
        return result.unflatten(0, (rows, views))
