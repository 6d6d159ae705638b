"""Runs a function in several processes of one process group, as a training on several devices does."""

import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from .violation import require


def run_together(function: Callable[..., Any], arguments: tuple[Any, ...], processes: int) -> list[Any]:
    """Runs a function in several processes of one process group on this machine, and returns their results.

    Args:
        function: Called with the arguments, the number of its process and how many there are; returns what ``torch.save`` takes.
        arguments: Its first arguments.
        processes: How many there are.

    Raises:
        ContractViolation: One of them failed, or had not ended after three minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder)
        context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        workers = [
            context.Process(target=_work, args=(function, arguments, shared, number, processes))
            for number in range(processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(180)
            if worker.is_alive():
                worker.kill()
        codes = [worker.exitcode for worker in workers]
        require(codes == [0] * processes, f"{processes} processes ended with exit codes {codes}; see their output")
        return [torch.load(shared / f"{number}.pt") for number in range(processes)]


def _work(function: Callable[..., Any], arguments: tuple[Any, ...], shared: Path, number: int, processes: int) -> None:
    torch.set_num_threads(1)  # a forked process must not touch its parent's thread pool
    dist.init_process_group(
        "gloo", f"file://{shared}/meeting", rank=number, world_size=processes, timeout=timedelta(seconds=120)
    )
    torch.save(function(*arguments, number, processes), shared / f"{number}.pt")
    dist.barrier()
    dist.destroy_process_group()
