"""Tiny recipes that train in a second or two, and ways to run them in processes of their own.

Processes are forked from a server that has imported everything and done nothing: quick to start, and no thread of the tests
can have left a lock behind in them.
"""

import contextlib
import json
import multiprocessing
import os
import socket
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

import hfcontrast.run
import hfcontrast.run_training  # here, so that no child has to

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["hfcontrast.run_training", "sklearn.datasets", "timm", "tiny_runs"])

RECIPES = {
    "simclr": """
method: {name: simclr, projection_dim: 16, temperature: 0.2}
backbone: {model_type: resnet, embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1], layer_type: basic}
views: {view: {size: 16, blur: 0.3}}
optim: {name: lars, lr: 1.0, warmup_steps: 2, weight_decay: 1e-4}
""",
    "dino": """
method: {name: dino, out_dim: 32, hidden_dim: 32, bottleneck_dim: 16}
backbone: {model_type: dinov2, hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, patch_size: 4, drop_path_rate: 0.2}
views: {all: {size: 16}, local: {size: 8, count: 2}}
optim: {lr: 0.01, warmup_steps: 2, weight_decay: 0.04, weight_decay_end: 0.1, clip_grad_norm: 3.0, clip_each: true}
""",
    "moco": """
method: {name: moco, projection_dim: 16, queue_size: 80, batch_norm_groups: 2}
backbone: {model_type: resnet, embedding_size: 8, hidden_sizes: [8, 16], depths: [1, 1], layer_type: basic}
views: {view: {size: 16}}
optim: {name: sgd, lr: 0.1, warmup_steps: 2}
""",
    "clip": """
method: {name: clip}
backbone:
  model_type: clip
  projection_dim: 16
  vision_config: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2, patch_size: 8}
  text_config: {hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2}
text: {vocab_size: 600, max_length: 24}
views: {view: {size: 32}}
optim: {lr: 0.01, warmup_steps: 2, weight_decay: 0.1}
""",
}
REST = """
data: {path: builtin/digits, split: "train[:200]"}
train: {batch_size: 32, steps: 14, log_every: 1, checkpoint_every: 5, device: cpu}
eval: {every: 7, max_train: 64, max_test: 32}
"""


class Ended(NamedTuple):
    """How a run ended.

    Args:
        code: Exit code; negative: the signal that killed it.
        output: What it wrote to stdout and stderr.
    """

    code: int
    output: str


class Run:
    """A training in the background.

    Args:
        recipe: The recipe's file.
        output: The run's folder; what it prints goes to a file beside it.
        overrides: Overrides of the recipe.
        processes: Processes that train together, on the CPU.
    """

    def __init__(self, recipe: Path, output: Path, *overrides: str, processes: int = 1):
        self.folder = output
        self.log = output.with_suffix(".log")
        arguments = [str(recipe), f"train.output={output}", *overrides]
        port = _free_port()
        self.log.write_text("")
        self.processes = [
            _context.Process(target=_train, args=(arguments, self.log, rank, processes, port))
            for rank in range(processes)
        ]
        for process in self.processes:
            process.start()

    def wait(self) -> Ended:
        """Waits for the end."""
        for process in self.processes:
            process.join(240)
            if process.is_alive():
                process.kill()
                process.join()
        return Ended(next((p.exitcode for p in self.processes if p.exitcode), 0), self.log.read_text())

    def signal(self, number: int) -> None:
        """Sends a signal to all training processes."""
        for process in self.processes:
            os.kill(process.pid, number)

    def signal_group(self, number: int) -> None:
        """Sends a signal to the first process and to all that it has started, such as workers: its process group."""
        leader = self.processes[0]
        while leader.is_alive() and os.getpgid(leader.pid) != leader.pid:  # it has just been started
            time.sleep(0.01)
        if leader.is_alive():
            os.killpg(leader.pid, number)


def run(recipe: Path, output: Path, *overrides: str, processes: int = 1) -> Ended:
    """Trains to the end."""
    return Run(recipe, output, *overrides, processes=processes).wait()


def metrics(output: Path) -> list[dict]:
    """The whole lines of metrics.jsonl, without what depends on the clock."""
    file = output / "metrics.jsonl"
    lines = [line for line in file.read_text().splitlines() if line.endswith("}")] if file.exists() else []
    return [
        {key: value for key, value in json.loads(line).items() if key not in ("images_per_second", "waiting")}
        for line in lines
    ]


def _train(arguments: list[str], log: Path, rank: int, processes: int, port: int) -> None:
    os.setpgid(0, 0)
    multiprocessing.set_start_method("fork", force=True)  # workers start as in any run, not from a server of their own
    torch.set_num_threads(1)  # one order of sums; and a forked process must not touch its parent's thread pool
    if processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with log.open("a", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        code = hfcontrast.run.main(arguments)
        file.flush()
    sys.stdout.flush()
    os._exit(code)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
