"""Exponential moving averages of weights, for teachers, target networks and momentum encoders."""

import torch
from torch import Tensor, nn

from .schedule import cosine


class MomentumUpdate:
    """Moves the parameters of teachers towards their students': ``teacher = m * teacher + (1 - m) * student``.

    One fused ``torch._foreach_lerp_`` over all pairs, which are collected once.

    Args:
        pairs: (teacher, student) modules of equal structure.
    """

    def __init__(self, pairs: list[tuple[nn.Module, nn.Module]]):
        self.teachers: list[Tensor] = [p for teacher, _ in pairs for p in teacher.parameters()]
        self.students: list[Tensor] = [p for _, student in pairs for p in student.parameters()]
        if [p.shape for p in self.teachers] != [p.shape for p in self.students]:
            raise ValueError("a teacher and its student must have parameters of equal shapes")

    @torch.no_grad()
    def __call__(self, momentum: float) -> None:
        """Updates all teachers in place; ``momentum`` in [0, 1]."""
        torch._foreach_lerp_(self.teachers, self.students, 1.0 - momentum)


def momentum_schedule(base: float, fraction: float) -> float:
    """Momentum that rises from ``base`` to 1 along a half cosine (BYOL, eq. in section 3.2; DINO).

    Args:
        base: Momentum at the start, in [0, 1].
        fraction: Elapsed fraction of the training, in [0, 1].
    """
    return cosine(base, 1.0, fraction)
