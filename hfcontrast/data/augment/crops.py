"""Crops: decoded images and drawn boxes to uint8 pixels of one size, antialiased."""

import numpy as np
import torch

from hfcontrast.data.augment.draws import Draws
from hfcontrast.view import View

try:
    from hfcontrast.data.augment import crops_cpu
except ImportError:  # numba is optional
    crops_cpu = None

# The operators behind F.interpolate(antialias=True) without its checks, which take longer than a crop of 32 pixels.
_RESIZE = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.default,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.default,
}


class CropCutter:
    """Cuts the crops of a batch of images into one buffer per batch key.

    Args:
        views: The views of the method.

    Attributes:
        buffers: For each batch key the shape (V, size, size, 3) of one sample's crops.
    """

    def __init__(self, views: tuple[View, ...]):
        self.buffers: dict[str, tuple[int, int, int, int]] = {}
        self._modes: dict[str, list[str]] = {}
        for view in views:
            self._modes.setdefault(view.key, []).extend([view.interpolation] * view.count)
        sizes = {view.key: view.size for view in views}
        for key, modes in self._modes.items():
            self.buffers[key] = (len(modes), sizes[key], sizes[key], 3)

    def allocate(self, rows: int) -> dict[str, torch.Tensor]:
        """Buffers for a batch: uint8 (rows, V, size, size, 3) for each key."""
        return {key: torch.empty((rows, *shape), dtype=torch.uint8) for key, shape in self.buffers.items()}

    def cut(
        self, images: list[np.ndarray], draws: dict[str, Draws], buffers: dict[str, torch.Tensor], start: int
    ) -> None:
        """Cuts the crops of some images into rows ``start`` and on of the buffers.

        Args:
            images: (H, W, 3) uint8 arrays, one a sample.
            draws: What ``draw_views`` drew for these images.
            buffers: What ``allocate`` gave.
            start: The first row to fill.
        """
        for key, drawn in draws.items():
            boxes, flips, modes, out = drawn.boxes.tolist(), drawn.flips.tolist(), self._modes[key], buffers[key]
            size, array = self.buffers[key][1], out.numpy()
            for row, image in enumerate(images):
                for number, mode in enumerate(modes):
                    box, flip = boxes[row][number], flips[row][number]
                    if crops_cpu is not None and box[2] * max(box[3], size) <= crops_cpu.WORK:
                        crops_cpu.cut_small(image, *box, mode == "bicubic", *flip, array[start + row, number])
                    else:
                        out[start + row, number].copy_(cut_crop(image, box, size, mode, *flip))


def cut_crop(
    image: np.ndarray, box: list[int], size: int, mode: str, flip_horizontally: bool, flip_vertically: bool
) -> torch.Tensor:
    """Cuts one box out of an image and resizes it as ``torchvision.transforms.v2.functional.resized_crop`` does.

    Args:
        image: (H, W, 3) uint8.
        box: Top, left, height, width in pixels.
        size: Side of the result in pixels.
        mode: ``bilinear`` or ``bicubic``.
        flip_horizontally: Whether the result is mirrored left to right.
        flip_vertically: Whether the result is mirrored top to bottom.

    Returns:
        (size, size, 3) uint8.
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
