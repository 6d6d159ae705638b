"""Mean and standard deviation of images whose channels are no colors, measured on them before the training."""

import json
from pathlib import Path

from accelerate import Accelerator

from ..atomic import json_text, write_text
from ..data.sources import Rows
from ..encoders.channels import COLORS
from ..errors import DataError, RecipeError
from ..methods.base import Method
from ..progress import LongTask
from ..recipe import Recipe
from .data_statistics import sample_images

_FILE = "checkpoints/channels.json"
_SMALLEST = 1 / 255  # of a standard deviation: a channel may be one value everywhere

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def check_colors(recipe: Recipe, method_class: type[Method]) -> None:
    """Refuses methods that learn from colors where the images have none.

    Raises:
        RecipeError: The method does.
    """
    if recipe.data.other_channels and method_class.needs_colors:
        raise RecipeError(
            f"method '{recipe.method.name}' takes images of three channels alone, and these have {recipe.data.channels} channels (data.channels): take another "
            "method, such as simclr, mae or dino"
        )


def channel_statistics(
    recipe: Recipe, known: Statistics, rows: Rows, size: int, accelerator: Accelerator
) -> Statistics:
    """What images are normalized by: what is known of colors; of other channels what they are found to have.

    Measured by one process, once a run: a resumed run uses what the first measured.

    Args:
        recipe: The recipe.
        known: Mean and standard deviation of the recipe, of released weights or of ImageNet.
        rows: The training rows.
        size: Side of the images that are looked at, in pixels.
        accelerator: Which process this is.

    Raises:
        DataError: No image can be read.
        RecipeError: The recipe names mean and deviation of another number of channels.
    """
    channels = recipe.data.channels or COLORS
    if recipe.data.mean is not None and len(recipe.data.mean) != channels:
        raise RecipeError(
            f"data.mean has {len(recipe.data.mean)} values, and the images have {channels} channels (data.channels)"
        )
    if not recipe.data.other_channels or len(known[0]) == channels:
        return known
    file = Path(recipe.train.output) / _FILE
    if accelerator.is_main_process and not (any(file.parent.glob("step_*")) and file.is_file()):
        with LongTask(f"measuring the mean and deviation of {channels} channels"):
            images = sample_images(rows, size)
        mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3)).clamp(min=_SMALLEST)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json_text({"mean": mean.tolist(), "std": std.tolist()}))
    accelerator.wait_for_everyone()
    if not file.is_file():
        raise DataError(f"the mean and deviation of the channels were not measured: {file} is missing")
    found = json.loads(file.read_text(encoding="utf-8"))
    return tuple(found["mean"]), tuple(found["std"])


def told_channels(recipe: Recipe, mean: tuple[float, ...], std: tuple[float, ...]) -> str | None:
    """That images have other channels than colors, and what follows; None where they have three."""
    if not recipe.data.other_channels:
        return None
    values = ", ".join(f"{one:.3f} ± {other:.3f}" for one, other in zip(mean, std, strict=True))
    one = len(mean) == 1
    return f"images: {len(mean)} channel{'s' * (not one)} (data.channels), normalized by {values}; saturation, hue, grayscale and Sobel filters are left out of the views"
