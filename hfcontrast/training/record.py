"""What a run notes of itself for its card: the weights that it starts from, and what its steps were computed on."""

from typing import Any

import torch

from .build import Training
from .environment import describe_environment
from .precision import SETUPS

START = "start"


def record(training: Training, step: int, notes: dict[str, Any]) -> None:
    """Notes the starting point of a new run, and what the steps from here on are computed on, where that is not as before.

    Args:
        training: The run.
        step: Steps done before.
        notes: The run's, which are changed.
    """
    if step == 0:  # later, a name on the Hub may stand for other weights
        notes[START] = training.start.facts(training.method.encoder) if training.start else None
        notes[SETUPS] = []
    if (training.length.pending or step < training.total_steps) and SETUPS in notes:
        now = setup(training)
        before = notes[SETUPS][-1] if notes[SETUPS] else {}
        if {**before, "from_step": 0} != {**now, "from_step": 0}:
            notes[SETUPS] = [*notes[SETUPS], {"from_step": step, **now}]


def setup(training: Training) -> dict[str, Any]:
    """What steps are computed on: ``device``, ``processes``, ``precision`` and ``versions``."""
    accelerator = training.accelerator
    cuda = accelerator.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(accelerator.device) if cuda else accelerator.device.type,
        "processes": accelerator.num_processes,
        "precision": precision_of(training),
        "versions": describe_environment(),
    }


def precision_of(training: Training) -> str:
    """The arithmetic of the model, as recipes call it."""
    return {"no": "fp32"}.get(training.accelerator.mixed_precision, training.accelerator.mixed_precision)
