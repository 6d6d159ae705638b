"""The check that a method learns from one repeated batch."""

import copy

import torch
from torch import Tensor

from ..methods.base import Method, Progress
from ..methods.contract.loading import teachers_updated
from ..training.step import OptimizerStep
from .violation import require


def check_learns(method: Method, batch: dict[str, Tensor], steps: int) -> None:
    """Trained on one repeated batch, the loss ends below that of the same method with fixed weights.

    Not below the first loss, since updates of a center or a queue change the loss without any learning.
    """
    fixed = copy.deepcopy(method)
    first, learned = _losses(method, batch, steps, lr=1e-3)
    _check_teachers_follow(method, fixed)
    _, stayed = _losses(fixed, batch, steps, lr=0.0)
    require(
        learned < stayed,
        f"nothing is learned from {len(batch['index'])} images: after {steps} steps the loss is {learned:.4f} ({first:.4f} at "
        f"first), and with fixed weights it is {stayed:.4f}",
    )


def _check_teachers_follow(method: Method, before: Method) -> None:
    """A teacher whose source has changed was updated; with a momentum of 1 it stays the same."""
    if teachers_updated(method):  # update_teachers() was called
        return
    for name, source in method.teachers.items():
        stands, rests = (_same_parameters(method, before, part) for part in (name, source))
        require(
            rests or not stands,
            f"teachers has {name!r} follow {source!r}, and no step updates it: call self.update_teachers(momentum) in after_step()",
        )


def _same_parameters(first: Method, second: Method, part: str) -> bool:
    pairs = zip(first.get_submodule(part).parameters(), second.get_submodule(part).parameters())
    return all(torch.equal(*pair) for pair in pairs)


def _losses(method: Method, batch: dict[str, Tensor], steps: int, lr: float) -> tuple[float, float]:
    """First loss, and the mean of the last three, of a training on one batch."""
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=lr)
    optimizer_step = OptimizerStep(method, optimizer)
    progress = (Progress(step, steps, max(steps // 10, 1)) for step in range(steps))
    losses = [optimizer_step([batch], now).loss.item() for now in progress]
    return losses[0], sum(losses[-3:]) / 3
