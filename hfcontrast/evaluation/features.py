"""Features of a data set by a frozen encoder, shared out over the processes."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel

from ..encoders.channels import COLORS
from ..encoders.features import encode, feature_size
from ..errors import DataError
from ..nn.distributed import gather, world_size
from ..progress import LongTask
from .inputs import evaluating

_SIDE = 32
_COPIES = 4  # of the features, that a classifier needs memory for


class RawPixels:
    """Stands for an encoder whose features are the pixels themselves: the baseline of what an encoder makes of them.

    Args:
        device: Where classifiers are fitted to them.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)


def extract_features(
    encoder: PreTrainedModel | RawPixels, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Encodes batches of (pixel_values, labels) in evaluation mode and float32.

    Args:
        encoder: Any transformers vision model, whose training mode is restored afterwards; of raw pixels, images of at most
            32 px a side, to which larger ones are averaged down.
        batches: This process's share of the data: (N, C, H, W) pixels and (N,) labels.

    Returns:
        Features (M, D) and labels (M,) of all processes together, on the CPU.

    Raises:
        DataError: No process has an image.
    """
    if isinstance(encoder, RawPixels):
        return _flat_pixels(batches)
    parameter = next(encoder.parameters())
    # A process may have no share in a small data set.
    features = [torch.zeros(0, feature_size(encoder), device=parameter.device)]
    labels = [torch.zeros(0, dtype=torch.long, device=parameter.device)]
    with evaluating(encoder), LongTask("encoding the images") as task:
        for pixels, targets in batches:
            task.update(len(pixels))
            features.append(encode(encoder, pixels.to(parameter.device, parameter.dtype)).float())
            labels.append(targets.to(parameter.device))
    together = join_processes(torch.cat(features)).cpu()
    if not len(together):
        raise DataError("there is no image to evaluate: the split is empty, or none of its images can be read")
    return together, join_processes(torch.cat(labels)).cpu()


def join_processes(rows: Tensor) -> Tensor:
    """Rows of all processes, dealt out in turn: where each has every n-th row of a data set, as one process would have them.

    Processes may hold different numbers of rows.
    """
    if world_size() == 1:
        return rows
    home = rows.device
    if dist.get_backend() == "nccl":  # which reaches no CPU memory
        rows = rows.cuda()
    counts = gather(torch.tensor([len(rows)], device=rows.device)).tolist()
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    in_turn = gather(padded).unflatten(0, (len(counts), -1)).transpose(0, 1)
    there = torch.arange(max(counts))[:, None] < torch.tensor(counts)
    return in_turn[there.to(rows.device)].to(home)


def all_objects(own: Any) -> list[Any]:
    """An object of every process, on every process; all must call it."""
    if world_size() == 1:
        return [own]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, own)
    return found


def computing_device(encoder: Any) -> torch.device:
    """Where a classifier is fitted to an encoder's features: on its GPU, else on the CPU, as other devices have no float64."""
    device = encoder.device if hasattr(encoder, "device") else next(encoder.parameters()).device
    return device if device.type == "cuda" else torch.device("cpu")


def pixel_side(channels: int) -> int:
    """The side, in pixels, that images have at most as features: 32 of colors, so many fewer of more channels that there are no more numbers."""
    return min(_SIDE, int((COLORS * _SIDE**2 / channels) ** 0.5))


def on_device(device: torch.device, *features: Tensor) -> tuple[Tensor, ...]:
    """Features and labels where classifiers are fitted to them; on the CPU where a GPU lacks the memory for several copies.

    Args:
        device: Of :func:`computing_device`.
        features: What is moved.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if _COPIES * sum(one.nbytes for one in features) > free:
            device = torch.device("cpu")
    return tuple(one.to(device) for one in features)


def _flat_pixels(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Pixels of images at most 32 px wide (larger ones are averaged down to that; fewer px of more than three channels), one row an image."""
    pixels, labels = [], []
    for images, targets in batches:
        side = pixel_side(images.shape[1])
        if images.shape[-1] > side:
            images = torch.nn.functional.adaptive_avg_pool2d(images, side)
        pixels.append(images.flatten(1))
        labels.append(targets)
    width = int(join_processes(torch.tensor([pixels[0].shape[1] if pixels else 0])).max())  # a share may be empty
    pixels.append(torch.zeros(0, width))
    labels.append(torch.zeros(0, dtype=torch.long))
    return join_processes(torch.cat(pixels)), join_processes(torch.cat(labels))
