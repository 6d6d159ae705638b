"""The running statistics of batch normalization: forward passes that do not update them, and averages over groups and processes."""

import contextlib
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .batch_norm import GlobalBatchNorm
from .distributed import world_size

_BatchNorm = nn.modules.batchnorm._BatchNorm
_InstanceNorm = nn.modules.instancenorm._InstanceNorm


def batch_norm_layers(module: nn.Module) -> dict[str, nn.Module]:
    """The layers, by name, that currently normalize by batch statistics: those in training mode.

    Frozen layers, which use running statistics, are excluded; timm's EvoNorm-B, a separate class, is included.
    """
    return {name: layer for name, layer in module.named_modules() if layer.training and _uses_the_batch(layer)}


def _uses_the_batch(layer: nn.Module) -> bool:
    if isinstance(layer, _BatchNorm):
        return True
    return "running_var" in layer._buffers and hasattr(layer, "momentum") and not isinstance(layer, _InstanceNorm)


@contextlib.contextmanager
def statistics_apart(module: nn.Module) -> Iterator[list[Tensor]]:
    """Context in which forward passes update copies of the running statistics, which it yields; the originals are unchanged.

    The copies replace the module's buffers, because the graph of an earlier pass may hold these: autograd refuses modified
    tensors.
    """
    kept = [(layer, name, value) for layer, name, value in _statistics(module)]
    copies = [value.clone() for _, _, value in kept]
    for (layer, name, _), value in zip(kept, copies):
        layer._buffers[name] = value
    try:
        yield copies
    finally:
        for layer, name, value in kept:
            layer._buffers[name] = value


@torch.no_grad()
def move_to_mean(module: nn.Module, moved: list[list[Tensor]]) -> None:
    """Sets the running statistics to the mean of the copies that several passes have updated, as one update.

    Args:
        module: The module with the statistics.
        moved: The copies yielded by :func:`statistics_apart`, one entry per pass.
    """
    for (_, _, value), copies in zip(_statistics(module), zip(*moved)):
        mean = torch.stack(copies).mean(dim=0) if value.is_floating_point() else copies[0]
        value.data.copy_(
            mean
        )  # .data, because a graph may hold the value; the backward pass in training mode does not read it


@torch.no_grad()
def average_over_processes(module: nn.Module, weight: float = 1.0) -> None:
    """Averages the running statistics, which every process has updated by its own batches, over the processes.

    Running statistics are linear in those of the batches: the result is the moving average of the processes' mean
    statistics, regardless of how often this is called. Synchronized layers have equal ones, which are not changed.

    Args:
        module: The module with the statistics.
        weight: Weight of this process in the mean, such as its number of images if these differ. Above 0 on at least one
            process.
    """
    if world_size() == 1:
        return
    values = [
        value
        for layer, _, value in _statistics(module)
        if value.is_floating_point() and not (type(layer) is GlobalBatchNorm or isinstance(layer, nn.SyncBatchNorm))
    ]
    if not values:
        return
    whole = torch.cat([*(value.flatten().float() for value in values), torch.ones(1, device=values[0].device)]) * weight
    dist.all_reduce(whole)
    parts = (whole[:-1] / whole[-1]).split([value.numel() for value in values])
    torch._foreach_copy_(values, [part.view_as(value) for part, value in zip(parts, values)])


def hold_when_recomputed(module: nn.Module) -> None:
    """Prevents recomputed activations from updating the running statistics again.

    A forward pass inside a backward pass is a recomputation, whether by transformers, timm or a method itself.
    torch.compile's own recomputation does not update them.
    """
    for layer in module.modules():
        if _uses_the_batch(layer) and _before not in layer._forward_pre_hooks.values():
            layer.register_forward_pre_hook(_before)
            layer.register_forward_hook(_after, always_call=True)  # checkpointing ends the last pass by an exception


def _before(layer: nn.Module, _inputs: tuple) -> None:
    if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1 and layer.training:
        held = contextlib.ExitStack()
        held.enter_context(statistics_apart(layer))
        vars(layer)["held_statistics"] = held


def _after(layer: nn.Module, _inputs: tuple, _outputs: object) -> None:
    if not torch.compiler.is_compiling() and (held := layer.__dict__.pop("held_statistics", None)):
        held.close()


def _statistics(module: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    for layer in batch_norm_layers(module).values():
        for name, value in layer._buffers.items():
            if value is not None:
                yield layer, name, value
