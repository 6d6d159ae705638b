"""The running statistics of batch normalization, which forward passes move: kept out of passes that count nothing, and averaged
over groups and processes."""

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
    """The layers, by name, that normalize by the statistics of a batch as the modes are now: those in training mode.

    Frozen ones, which have running statistics alone, are not among them; timm's EvoNorm-B, a class of its own, is.
    """
    return {name: layer for name, layer in module.named_modules() if layer.training and _uses_the_batch(layer)}


def _uses_the_batch(layer: nn.Module) -> bool:
    if isinstance(layer, _BatchNorm):
        return True
    return "running_var" in layer._buffers and hasattr(layer, "momentum") and not isinstance(layer, _InstanceNorm)


@contextlib.contextmanager
def statistics_apart(module: nn.Module) -> Iterator[list[Tensor]]:
    """Forward passes inside move copies of the running statistics, which it gives; the module's own stay what they are.

    The copies take the place of the module's, which a graph of an earlier pass may hold: autograd refuses tensors that were
    written to.
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
    """Moves the running statistics to the mean of what several passes have made of their copies, as one pass in all.

    Args:
        module: Whose statistics they are.
        moved: What :func:`statistics_apart` gave, one entry a pass.
    """
    for (_, _, value), copies in zip(_statistics(module), zip(*moved)):
        mean = torch.stack(copies).mean(dim=0) if value.is_floating_point() else copies[0]
        value.data.copy_(mean)  # .data, as a graph may hold the value; the backward pass of a training does not read it


@torch.no_grad()
def average_over_processes(module: nn.Module, weight: float = 1.0) -> None:
    """Makes the running statistics that every process has moved by its own batches their mean over the processes.

    Running statistics are linear in those of the batches: what is published is the moving average of the processes' mean
    statistics, however often this is called. Synchronized layers have equal ones, which are left alone, to the last bit.

    Args:
        module: Whose statistics they are.
        weight: Of this process's in the mean, such as its number of images where these are unequal. Above 0 on one
            process at least.
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
    """Lets recomputed activations leave the running statistics alone, which the first computation has moved already.

    A forward pass inside a backward pass is a recomputation, whoever asks for it: transformers, timm or a method itself.
    torch.compile's own recomputation moves nothing.
    """
    for layer in module.modules():
        if _uses_the_batch(layer) and _before not in layer._forward_pre_hooks.values():
            layer.register_forward_pre_hook(_before)
            layer.register_forward_hook(_after, always_call=True)  # checkpointing leaves the last pass by an exception


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
