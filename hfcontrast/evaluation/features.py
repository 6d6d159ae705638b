"""Features of a data set by a frozen encoder, shared out over the processes."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedModel

from ..encoders.features import encode, feature_size
from ..errors import DataError
from ..nn.distributed import gather, world_size
from .inputs import evaluating


def extract_features(encoder: PreTrainedModel, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Encodes batches of (pixel_values, labels) in evaluation mode and float32.

    Args:
        encoder: Any transformers vision model; its training mode is restored afterwards.
        batches: This process's share of the data: (N, C, H, W) pixels and (N,) labels.

    Returns:
        Features (M, D) and labels (M,) of all processes together, on the CPU.

    Raises:
        DataError: No process has an image.
    """
    parameter = next(encoder.parameters())
    # A process may have no share in a small data set.
    features = [torch.zeros(0, feature_size(encoder), device=parameter.device)]
    labels = [torch.zeros(0, dtype=torch.long, device=parameter.device)]
    with evaluating(encoder):
        for pixels, targets in batches:
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
