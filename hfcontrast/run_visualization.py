"""The image of a run's predictions, ``predictions.png``: what the method predicts for a few samples."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .atomic import atomic_file, writing
from .data.sources import Rows
from .errors import PluginError
from .evaluation.inputs import evaluating
from .methods.contract.calling import visualized
from .publishing.card import PREDICTIONS
from .report.sheet import image_sheet
from .training.build import Training
from .training.data_statistics import sample_images
from .training.engines import SHARDED

SAMPLES = 8


def write_predictions(training: Training, rows: Rows) -> Path | None:
    """Writes ``predictions.png`` into the run's folder, where the method has something to show.

    Only the first process computes it. There is none where weights are sharded over processes, and none of images
    of other channels than three, which are no colors.

    Args:
        training: The finished run.
        rows: What it was evaluated on.

    Returns:
        The file; None where there is none, as where the method's ``visualize`` fails, which is a warning.
    """
    accelerator = training.accelerator
    if not accelerator.is_main_process or accelerator.distributed_type in SHARDED or len(training.mean) != 3:
        return None
    method = training.method
    batch = {name: value.to(accelerator.device) for name, value in undistorted_batch(training, rows).items()}
    devices = [accelerator.device] if accelerator.device.type == "cuda" else []
    try:
        with evaluating(method), torch.random.fork_rng(devices=devices), accelerator.autocast():
            torch.manual_seed(training.recipe.train.seed)  # completions are sampled
            columns = visualized(method, batch)
        sheet = image_sheet(columns, training.mean, training.std) if columns else None
    except Exception as error:  # any error: the training is finished
        found = str(error) if isinstance(error, PluginError) else f"visualize() raised {type(error).__name__}: {error}"
        accelerator.print(f"warning: there is no {PREDICTIONS}: {' '.join(found.split())}", file=sys.stderr)
        return None
    if sheet is None:
        return None
    file = training.output / PREDICTIONS
    with writing(str(file)), atomic_file(file) as unfinished:
        sheet.save(unfinished, format="PNG")
    return file


def undistorted_batch(training: Training, rows: Rows, count: int = SAMPLES) -> dict[str, Tensor]:
    """A batch as the method knows it, of undistorted images, cropped at the center.

    Returns:
        (N, V, 3, S, S) under the key of each kind of views, normalized; and ``index`` (N,).
    """
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (training.mean, training.std))
    batch: dict[str, Any] = {}
    for view in training.views:
        images = (sample_images(rows, view.size, count) - mean) / std
        crops = images.unsqueeze(1).expand(-1, view.count, -1, -1, -1)
        batch[view.key] = torch.cat([batch[view.key], crops], dim=1) if view.key in batch else crops
    batch["index"] = torch.arange(len(next(iter(batch.values()))))
    return batch
