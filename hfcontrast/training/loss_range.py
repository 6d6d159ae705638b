"""The smallest and the largest loss of a run: a constant loss, from which nothing is learned, is reported."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..nn.distributed import world_size

NOTE = "loss_range"


class LossRange:
    """Follows the losses of all steps on their device, so that nothing waits for them.

    Args:
        notes: Those of the checkpoint that a run is resumed from, with the range until then; or of a new run.
        step: Steps done before.
    """

    def __init__(self, notes: dict[str, Any], step: int):
        self.known = step == 0 or notes.get(NOTE) is not None  # checkpoints of earlier versions do not say
        low, high = notes.get(NOTE) or (float("inf"), float("-inf"))
        self.extremes = torch.tensor([-low, high], dtype=torch.float32)

    def add(self, loss: Tensor) -> None:
        """Takes in the loss of a step, a finite scalar."""
        both = torch.stack([-loss, loss]).detach().to(self.extremes.dtype)
        self.extremes = torch.maximum(self.extremes.to(both.device), both)

    def note(self) -> list[float] | None:
        """The smallest and the largest loss of all processes, for the notes; called by all together. None: not known."""
        extremes = self.extremes.clone()
        if world_size() > 1:
            dist.all_reduce(extremes, op=dist.ReduceOp.MAX)
        negative, high = extremes.tolist()
        return [-negative, high] if self.known else None


def constant_loss(notes: dict[str, Any], steps: int) -> str | None:
    """What is to be said of a finished run whose loss was exactly the same in every step; None where it moved.

    Args:
        notes: The run's.
        steps: Its optimizer steps.
    """
    low, high = notes.get(NOTE) or (0.0, 1.0)
    if low != high or steps < 2:
        return None
    return (
        f"The loss was exactly {low:g} in all {steps} steps: nothing was learned. Raise train.batch_size or lower "
        "train.accumulation, train longer, or look at what the method compares"
    )
