"""Shuffle-BN: keys are normalized with other images than their queries (MoCo, He et al., 2019, section 3.3).

If the batch statistics of a query and its key came from the same images, they would identify the key: the keys in the queue have
the statistics of other batches.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...errors import RecipeError
from ...nn.batch_norm import GlobalBatchNorm
from ...nn.distributed import gather, rank, world_size
from ...nn.running_statistics import move_to_mean, statistics_apart


def own_groups(encoder: nn.Module, groups: int | None) -> int | None:
    """Number of groups of this process's batch with separate batch statistics.

    Args:
        encoder: Module with the batch normalization.
        groups: Groups of the global batch, a multiple of the number of processes; None: one per process if statistics are per
            process (``train.sync_batchnorm: false``), a single one if they are synchronized.

    Returns:
        None if there is no other group to shuffle keys with: the encoder has no batch statistics, or there is a single group.

    Raises:
        RecipeError: The number of groups is not a multiple of the number of processes, or the statistics are synchronized.
    """
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    shared = all(isinstance(layer, GlobalBatchNorm | nn.SyncBatchNorm) for layer in layers)
    processes = world_size()
    groups = groups or (1 if shared else processes)
    if not layers or (groups == 1 and (shared or processes == 1)):
        return None
    if shared:
        raise RecipeError(
            f"method.batch_norm_groups is {groups}, but all processes share their batch statistics: set "
            "train.sync_batchnorm: false"
        )
    if groups % processes:
        raise RecipeError(
            f"method.batch_norm_groups is {groups}, expected a multiple of the {processes} processes, or null"
        )
    return groups // processes


def in_groups(
    function: Callable[[Tensor], Tensor], batch: Tensor, groups: int, encoder: nn.Module | None = None
) -> Tensor:
    """Applies ``function`` to ``groups`` consecutive parts of the batch, each with separate batch statistics.

    Args:
        function: Maps (N, ...) to (N, ...).
        batch: (B, ...), cut into parts as equal as possible.
        groups: Number of parts.
        encoder: The module that ``function`` runs. Its running statistics are updated once, by the mean over the groups, as with
            that many processes; None: they are updated group by group.

    Returns:
        (B, ...), in the order of the batch.
    """
    parts = batch.tensor_split(min(groups, len(batch)))
    if encoder is None:
        return torch.cat([function(part) for part in parts])
    outputs, moved = [], []
    for part in parts:
        with statistics_apart(encoder) as statistics:
            outputs.append(function(part))
        moved.append(statistics)
    move_to_mean(encoder, moved)
    return torch.cat(outputs)


@torch.no_grad()
def in_shuffled_groups(
    function: Callable[[Tensor], Tensor],
    batch: Tensor,
    groups: int,
    generator: torch.Generator,
    encoder: nn.Module | None = None,
) -> Tensor:
    """The same after shuffling the batch over all processes; the outputs are returned in the original order.

    Args:
        function: Maps (N, ...) to (N, ...).
        batch: (B, ...), of one shape on all processes.
        groups: Number of parts of this process's batch.
        generator: On the CPU, in the same state on all processes; draws the permutation.
        encoder: As in :func:`in_groups`.

    Returns:
        (B, ...) without gradient, row i for row i of ``batch``.
    """
    own = slice(rank() * len(batch), (rank() + 1) * len(batch))
    order = torch.randperm(world_size() * len(batch), generator=generator).to(batch.device)
    outputs = gather(in_groups(function, gather(batch.contiguous())[order[own]], groups, encoder).contiguous())
    return outputs[order.argsort()[own]]
