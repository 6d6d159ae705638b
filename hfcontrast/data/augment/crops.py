"""Crops: decoded images and drawn boxes to uint8 pixels of one size, antialiased; small ones by compiled loops, where numba is."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch

from hfcontrast.data.augment.definition import cut_crop, rotate
from hfcontrast.data.augment.draws import Draws
from hfcontrast.data.augment.execution import loops
from hfcontrast.view import View


class CropCutter:
    """Cuts the crops of a batch of images into one buffer per batch key.

    Args:
        views: The views of the method.
        channels: Of the images.

    Attributes:
        buffers: For each batch key the shape (V, size, size, C) of one sample's crops.
    """

    def __init__(self, views: tuple[View, ...], channels: int = 3):
        self.buffers: dict[str, tuple[int, int, int, int]] = {}
        self._modes: dict[str, list[str]] = {}
        for view in views:
            self._modes.setdefault(view.key, []).extend([view.interpolation] * view.count)
        sizes = {view.key: view.size for view in views}
        for key, modes in self._modes.items():
            self.buffers[key] = (len(modes), sizes[key], sizes[key], channels)
        self._small_loop = channels == 3  # which the compiled loop is written for
        loops("crops")  # imported here, so that workers that are forked have them

    def allocate(self, rows: int) -> dict[str, torch.Tensor]:
        """Buffers for a batch: uint8 (rows, V, size, size, 3) for each key."""
        return {key: torch.empty((rows, *shape), dtype=torch.uint8) for key, shape in self.buffers.items()}

    def cut(
        self, images: list[np.ndarray], draws: dict[str, Draws], buffers: dict[str, torch.Tensor], start: int
    ) -> None:
        """Cuts the crops of some images into rows ``start`` and on of the buffers.

        Args:
            images: (H, W, C) uint8 arrays, one a sample.
            draws: What ``draw_views`` drew for these images.
            buffers: What ``allocate`` gave.
            start: The first row to fill.
        """
        with one_thread():
            self._cut(images, draws, buffers, start)

    def _cut(
        self, images: list[np.ndarray], draws: dict[str, Draws], buffers: dict[str, torch.Tensor], start: int
    ) -> None:
        compiled = loops("crops") if self._small_loop else None
        for key, drawn in draws.items():
            boxes, flips, turns = drawn.boxes.tolist(), drawn.flips.tolist(), drawn.turns.tolist()
            modes, out = self._modes[key], buffers[key]
            size, array = self.buffers[key][1], out.numpy()
            for row, image in enumerate(images):
                for number, mode in enumerate(modes):
                    box, flip = boxes[row][number], flips[row][number]
                    if compiled is not None and box[2] * max(box[3], size) <= compiled.WORK:
                        compiled.cut_small(image, *box, mode == "bicubic", *flip, array[start + row, number])
                    else:
                        out[start + row, number].copy_(cut_crop(image, box, size, mode, *flip))
                    if turns[row][number]:
                        array[start + row, number] = rotate(array[start + row, number], turns[row][number])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A block whose operations of torch run on one thread: a crop takes 0.1 ms, and on busy cores threads wait for each other 50 times as long."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
