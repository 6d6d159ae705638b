"""A warning for loops that train a method without beginning its steps: its state would stand still, and nothing else would say so."""

import warnings
from typing import TYPE_CHECKING

import torch

from .declaration import called
from .old_names import overrides

if TYPE_CHECKING:
    from ..base import Method

PASSES = 3  # in training mode and with gradients, after which it is no look at a loss
_HOOKS = {
    "before_step": "its schedules",
    "after_step": "what it updates after a step (teachers, queues, memory banks, centers)",
    "frozen": "what is frozen in the beginning",
}


def note_pass(method: "Method") -> None:
    """Counts a forward pass of a method with which no step has begun yet, and warns once where it is trained so.

    Args:
        method: The method, at a call of its ``objective``.
    """
    if torch.compiler.is_compiling() or "progress" in vars(method):
        return
    if not (method.training and torch.is_grad_enabled()):
        return
    method._unstepped_passes += 1
    if method._unstepped_passes == PASSES and (waiting := standing_still(method)):
        warnings.warn(
            f"{called(type(method))} was called {PASSES} times in training mode, and no step has begun: {', '.join(waiting)} would "
            "never move. In transformers' Trainer add callbacks=[hfcontrast.integrations.MethodCallback()], in Lightning take "
            "LightningMethod, in a loop of your own call hfcontrast.integrations.StepCalls; for passes without a training "
            "use method.eval() or torch.no_grad()",
            UserWarning,
            stacklevel=2,
        )


def standing_still(method: "Method") -> list[str]:
    """What of a method waits for its steps, in words; empty where nothing does."""
    found = [words for name, words in _HOOKS.items() if overrides(type(method), name)]
    return found + ["its random numbers (masks, negatives)"] * method._draws_by_key
