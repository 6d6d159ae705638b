"""``train.minutes``: the speed of a step is measured, and the number of steps that fit into the time is fixed.

The steps that are measured are taken back: a run that has decided on N steps is, to the bit, the run of ``train.steps: N``.
"""

import contextlib
import copy
import math
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from torch import nn

from ..methods.base import Progress
from ..progress import LongTask, duration
from .baseline import SECONDS as EVALUATION
from .build import Training
from .checkpoint_files import restore_random_states
from .early_stopping import seconds_of_measurements
from .notices import phases_missed_in

_WARM_UP = 2  # steps that are not counted: compilation, first allocations
_SHARE = 0.02  # of the time that measuring may take
_MOST_SECONDS = 20.0
_FEWEST, _MOST = 3, 100  # steps that are measured
_FILLING = 0.1  # share of the time that decoding the images may take before the steps are measured
_TRAINING = (
    0.5  # share of the time that a new run's steps get at least, however long compilation and evaluation took before
)
_SPARE = 0.98  # of the time left that is planned: checkpoints and log lines take some too
FEW_EPOCHS = 20  # passes over the images below which more time is advised
_UNKNOWN_EVALUATION = 0.1  # share of the time that is kept for the evaluation at the end, where none came before


def decide_length(training: Training, step: int, notes: dict[str, Any]) -> None:
    """Fixes the number of steps of a run by the time that is left to it; every process must call it.

    Args:
        training: The run, before the next step; its state stays as it is.
        step: Steps done.
        notes: Its notes.
    """
    minutes = training.recipe.train.minutes
    whole = 60 * minutes
    training.loader.fill_cache(time_limit=_FILLING * whole)
    seconds = seconds_per_step(training, step, min(_SHARE * whole, _MOST_SECONDS))
    kept, each = kept_for_evaluation(training, notes)
    left = whole - training.clock.spent() - kept
    if not training.total_steps:  # a new run: whatever was slow before, it learns something
        left = max(left, _TRAINING * whole)
    steps = step + max(int(_SPARE * left / (seconds + each)), 0)
    spent = training.clock.spent()
    enough = max(FEW_EPOCHS * training.loader.steps_per_epoch - step, 0) * (seconds + each) / _SPARE
    needed = enough + spent + kept if training.total_steps else min(enough + spent + kept, enough / _TRAINING)
    decided: list[Any] = [max(steps, 1), seconds, spent]
    broadcast_object_list(decided)  # by the clock of the first process
    steps, seconds, spent = decided
    training.length = training.length.decided(step, steps, minutes, seconds)
    epochs = training.total_steps / training.loader.steps_per_epoch
    training.accelerator.print(
        f"train.minutes {minutes:g}: {duration(spent)} have passed, {duration(kept)} are kept for the evaluation at the end, and a "
        f"step takes {seconds:.3g} s: {training.total_steps:,} steps, {epochs:,.1f} epochs"
    )
    if epochs < FEW_EPOCHS and needed > whole:
        minutes_needed = math.ceil(needed / 60)
        training.accelerator.print(
            f"{epochs:,.1f} passes over the images are few: {_as_option(minutes_needed)} (train.minutes={minutes_needed}) would make about {FEW_EPOCHS}"
        )
    if changed := training.length.about(step):
        training.accelerator.print(changed)
    for sentence in phases_missed_in(training):
        training.accelerator.print(f"warning: {sentence}", file=sys.stderr)


def _as_option(minutes: int) -> str:
    """A time as the option of the command line has it."""
    return f"--time {math.ceil(minutes / 60)}h" if minutes >= 90 else f"--time {minutes}m"


def kept_for_evaluation(training: Training, notes: dict[str, Any]) -> tuple[float, float]:
    """Seconds that the evaluation at the end will take, baselines included, and those of the evaluations between, for each step."""
    settings, before = training.recipe.eval, notes.get(EVALUATION)
    if before is None:
        before = _UNKNOWN_EVALUATION * 60 * training.recipe.train.minutes / (1 + (settings.baselines is True))
    kept = before * (1 + (settings.baselines is True))
    minutes = training.recipe.train.minutes
    measured, each = seconds_of_measurements(notes, training.recipe.early_stopping.every, minutes)
    return kept + measured, each + (before / settings.every if settings.every else 0.0)


def seconds_per_step(training: Training, step: int, limit: float) -> float:
    """Mean duration of some steps in their steady state, in seconds; they are taken back.

    Args:
        training: The run.
        step: Steps done.
        limit: Seconds that measuring may take, beside the first steps.
    """
    compiles = ", in which torch compiles the model" if training.recipe.train.compile else ""
    with LongTask(f"measuring the speed of the first steps{compiles}") as task, taken_back(training):
        batches, optimizer_step = training.loader.iter_from(step), training.optimizer_step()
        progress = Progress(
            step, max(training.total_steps, step + 1), training.loader.steps_per_epoch, training.recipe.train.seed
        )

        def take() -> float:
            begun = time.perf_counter()
            done = optimizer_step((next(batches) for _ in range(training.recipe.train.accumulation)), progress)
            float(done.loss)  # waits for the device
            task.update()
            return time.perf_counter() - begun

        with contextlib.closing(batches):
            for _ in range(_WARM_UP):
                first = take()
            count = [max(min(int(limit / first), _MOST), _FEWEST)]
            broadcast_object_list(count)  # as many on all processes
            return sum(take() for _ in range(count[0])) / count[0]


@contextlib.contextmanager
def taken_back(training: Training) -> Iterator[None]:
    """A block whose steps leave no trace: weights, buffers, optimizer, random states and the position in the data are as before."""
    method, scaler = training.method, training.accelerator.scaler
    tensors = {name: value.detach().clone() for name, value in _tensors(method).items()}
    optimizer = copy.deepcopy(training.optimizer.state_dict())
    scaling = scaler.state_dict() if scaler else None
    loader, states = training.loader.state_dict(), _random_states()
    modes = [(module, module.training) for module in method.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        _restore(method, tensors)
        training.optimizer.load_state_dict(optimizer)
        training.optimizer.zero_grad()
        if scaler:
            scaler.load_state_dict(scaling)
        training.loader.load_state_dict(loader)
        restore_random_states(states)


def _tensors(method: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and buffers, also those that a checkpoint does not have."""
    return dict(method.named_parameters(remove_duplicate=False)) | dict(method.named_buffers(remove_duplicate=False))


@torch.no_grad()
def _restore(method: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    now = _tensors(method)
    for name in now.keys() | tensors.keys():
        place, _, own = name.rpartition(".")
        module = method.get_submodule(place)
        if name not in tensors:  # made by a step
            setattr(module, own, None)
        elif name in now and now[name].shape == tensors[name].shape:
            now[name].copy_(tensors[name])
        else:
            setattr(module, own, tensors[name])


def _random_states() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "random_state": random.getstate(),
        "numpy_random_seed": np.random.get_state(),
        "torch_manual_seed": torch.get_rng_state(),
        "torch_cuda_manual_seed": cuda,
    }
