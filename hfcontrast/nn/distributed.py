"""Collectives with exact gradients: gathering, sums and means over the global batch.

Every function is the identity in a single process, so a method is written once. Gradients follow the convention of
``DistributedDataParallel``, which *averages* parameter gradients over the processes: a loss that every process computes
on the whole gathered batch then has exactly the gradient that one process would compute.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together; 1 without ``torch.distributed``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:
        ctx.rows = local.shape[0]
        local = local.contiguous()
        parts = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(parts, local)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        # Every process used this process's rows, so their gradients add up; in a copy, as autograd may share this one.
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient.narrow(0, rank() * ctx.rows, ctx.rows)


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:
        total = local.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient


def gather(local: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, with gradients to every process's own rows.

    Args:
        local: (B, ...), of one shape on all processes.

    Returns:
        (world size * B, ...). The backward pass sums the gradients of all processes and hands each its own rows, which
        ``accelerator.gather`` does not do.
    """
    return local if world_size() == 1 else _Gather.apply(local)


def all_sum(local: Tensor) -> Tensor:
    """Sum over the processes, with gradients (the backward pass sums them too)."""
    return local if world_size() == 1 else _AllSum.apply(local)


def all_mean(local: Tensor) -> Tensor:
    """Mean over the processes, with gradients; of batch means over equal local batches: the mean of the global batch."""
    return local if world_size() == 1 else _AllSum.apply(local) / world_size()


def mean_of_terms(sums: Tensor, counts: Tensor) -> Tensor:
    """Mean over all terms of the global batch, whose number differs between samples, with the gradients of a single process.

    Args:
        sums: (...) sums over the terms of the samples of this process.
        counts: (...) numbers of their terms; at least one term in the global batch.

    Returns:
        Scalar, whose mean over the processes is the mean over all terms.
    """
    with torch.no_grad():
        number = all_sum(counts.sum().float()) / world_size()
    return sums.sum() / number
