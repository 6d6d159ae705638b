"""What all tests share: no network, quiet libraries, few threads, and functions that run on several processes."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TQDM_DISABLE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"  # so that train.precision: auto is fp32 on any CPU

import multiprocessing
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from transformers.utils import logging

torch.set_num_threads(1)  # the models are tiny: more threads would only wait for each other
logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture
def on_processes(tmp_path) -> Callable[..., list[Any]]:
    """Calls ``function(rank)`` on two (or ``count``) processes that gloo connects; returns their results in order."""

    def run(function: Callable[[int], Any], count: int = 2) -> list[Any]:
        folder = tmp_path / "processes"
        folder.mkdir()
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_work, args=(function, folder, rank, count)) for rank in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(90)
            if worker.is_alive():
                worker.kill()
        assert [worker.exitcode for worker in workers] == [0] * count
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(count)]

    return run


def _work(function: Callable[[int], Any], folder: Path, rank: int, count: int) -> None:
    torch.set_num_threads(1)  # a forked process must not touch its parent's thread pool
    torch.manual_seed(100 + rank)
    dist.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=rank, world_size=count, timeout=timedelta(seconds=60)
    )
    torch.save(function(rank), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
