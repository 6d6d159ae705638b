"""Commands under a launcher (``torchrun``, ``accelerate launch``): its processes share the work, and the first one writes and prints."""

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..errors import HFContrastError
from ..evaluation.features import all_objects
from ..nn.distributed import rank, world_size
from ..run import follow_launcher

_PATIENCE = timedelta(days=7)  # for processes with less to do; the launcher stops them all where one has ended

T = TypeVar("T")


@contextlib.contextmanager
def joined_processes(device: str | None = None) -> Iterator[None]:
    """A block in which the processes of a launcher work together; without a launcher, or where they do so already, it is any block.

    Args:
        device: What ``--device`` says.

    Raises:
        HFContrastError: They would share one GPU.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "MASTER_ADDR" not in os.environ or dist.is_initialized():
        yield
        return
    follow_launcher()
    on_gpus = device.startswith("cuda") if device else torch.cuda.is_available()
    if on_gpus:
        here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", count)), torch.cuda.device_count()
        if here > gpus or (device and ":" in device):
            raise HFContrastError(
                f"{here} processes would share GPUs (there are {gpus}): start one for each GPU, without --device, or add --device cpu"
            )
        torch.cuda.set_device(local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=_PATIENCE)
    try:
        yield
        all_objects(None)  # none leaves while another needs it
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """The number of this process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def of_first(function: Callable[[], T]) -> T:
    """What a function returns on the first process, on every process; all must call it.

    Raises:
        HFContrastError: What it raised there.
    """
    if world_size() == 1:
        return function()
    told: list[Any] = [None, None]
    problem: HFContrastError | None = None
    if rank() == 0:
        try:
            told[0] = function()
        except HFContrastError as error:
            problem, told[1] = error, str(error)
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise problem or HFContrastError(told[1])
    return told[0]


def in_turn(own: list[T]) -> list[T]:
    """What the processes have, dealt out in turn, on the first of them; nothing on the others. All must call it.

    Args:
        own: This process's; none has more than the processes before it.
    """
    if world_size() == 1:
        return own
    every: list[Any] | None = [None] * world_size() if rank() == 0 else None
    dist.gather_object(own, every)
    shares: list[list[T]] = every or []
    return [
        share[number] for number in range(len(shares[0]) if shares else 0) for share in shares if number < len(share)
    ]
