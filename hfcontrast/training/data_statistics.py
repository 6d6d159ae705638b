"""Settings of a method that are computed from images before the training: color clusters, frequencies of colors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from ..atomic import json_text, write_text
from ..data.evaluation_loader import evaluation_batches
from ..data.sources import Rows
from ..errors import DataError
from ..methods.base import Method
from ..methods.contract.calling import data_statistics_of
from ..progress import LongTask
from ..recipe import Recipe

IMAGES = 512  # images that are looked at, spread evenly over the data; the first ones of a stream
_FILE = "checkpoints/measured.json"


def measured_settings(
    recipe: Recipe, method_class: type[Method], rows: Rows, size: int, accelerator: Accelerator
) -> dict[str, Any]:
    """What the method's ``data_statistics`` names and the recipe does not give, by name.

    Measured by one process, once a run: a resumed run uses what the first measured.

    Args:
        recipe: The recipe.
        method_class: The method.
        rows: The training rows.
        size: Side of the images, in pixels: that of the first view.
        accelerator: Which process this is.

    Raises:
        DataError: No image can be read.
        PluginError: The method measures something else.
    """
    options = recipe.method.options
    missing = [name for name in method_class.data_statistics if options.get(name) is None]
    if not missing:
        return {}
    file = Path(recipe.train.output) / _FILE
    going_on = any(file.parent.glob("step_*"))
    if accelerator.is_main_process and not (going_on and file.is_file()):
        with LongTask(f"measuring {', '.join(missing)} on the images"):
            found = data_statistics_of(method_class, sample_images(rows, size), options, missing)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json_text(found))
    accelerator.wait_for_everyone()
    return json.loads(file.read_text(encoding="utf-8"))


def sample_images(rows: Rows, size: int, count: int = IMAGES) -> Tensor:
    """Undistorted images, (N, C, size, size) in [0, 1]: the short side resized, the middle cut out.

    Raises:
        DataError: None can be read.
    """
    batches = [
        pixels for pixels, *_ in evaluation_batches(spaced(rows, count), lambda images: _prepared(images, size), 64)
    ]
    if not batches:
        raise DataError(f"none of the first images of {rows.description} can be read")
    return torch.cat(batches)


def as_tensor(image: Image.Image | np.ndarray) -> Tensor:
    """(C, H, W) uint8 of an image as ``ImageReader.image`` gives it."""
    if isinstance(image, np.ndarray):
        return torch.from_numpy(image).permute(2, 0, 1)
    return F.pil_to_tensor(image.convert("RGB"))


def spaced(rows: Rows, count: int) -> Rows:
    """So many of the rows, evenly spaced; of a stream the first ones."""
    if rows.streaming:
        return rows.where(lambda _: True, count)
    number = min(count, rows.num_rows or 0)
    return rows.select([i * (rows.num_rows or 0) // number for i in range(number)])


def _prepared(images: list, size: int) -> Tensor:
    cropped = []
    for image in images:
        pixels = F.resize(as_tensor(image), size, antialias=True)
        cropped.append(F.center_crop(pixels, [size, size]))
    return torch.stack(cropped).float() / 255
