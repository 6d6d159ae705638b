"""Cross-entropy with a teacher's softmax as the target, without a float32 copy of all logits (DINO, iBOT)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

ROWS_AT_ONCE = 1 << 22  # logits in float32 at a time: 16 MiB, so that temporaries stay small and near the cores


def row_chunks(rows: int, width: int) -> Iterator[slice]:
    """Spans of rows of ``width`` logits, each of at most ROWS_AT_ONCE logits, or of one row."""
    step = max(1, ROWS_AT_ONCE // width)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


class _Distillation(torch.autograd.Function):
    """Cross-entropies summed over pairs of views, value and gradient in one pass, in float32 for a few groups at a time.

    Student (G, V, K) and teacher (G, T, K): in each group every student view predicts every teacher view; with
    ``others`` all but the one with its own number. Groups are weighted by ``weights`` (G,), the sum by ``scale``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        center: Tensor,
        weights: Tensor,
        others: bool,
        scale: float,
        student_temperature: float,
        teacher_temperature: float,
    ) -> Tensor:
        groups, views, prototypes = student.shape
        targets_each = teacher.shape[1]
        pairs = torch.full((views, 1), float(targets_each), device=student.device)
        if others:
            pairs[:targets_each] -= 1
        gradient = torch.empty_like(student) if student.requires_grad else None
        total = student.new_zeros((), dtype=torch.float32)
        for rows in row_chunks(groups, views * prototypes):
            targets = teacher[rows].float().sub(center.float()).div_(teacher_temperature).softmax(dim=-1)
            logits = student[rows].float() / student_temperature
            log_sum = logits.logsumexp(dim=-1, keepdim=True)
            # A student view predicts several teacher views: the target is the sum of their distributions.
            wanted = targets.sum(dim=1, keepdim=True).repeat(1, views, 1) if targets_each + views > 2 else targets
            if others:
                wanted[:, :targets_each] -= targets
            agreement = torch.linalg.vecdot(wanted.flatten(1), logits.flatten(1))
            total += torch.dot(weights[rows], (pairs * log_sum).sum(dim=(1, 2)) - agreement)
            if gradient is not None:
                gradient[rows] = logits.sub_(log_sum).exp_().mul_(pairs).sub_(wanted)
        # The factors are applied in the backward pass, together with a loss scaler's: before, fp16 would round the products to 0.
        ctx.scale = scale / student_temperature
        ctx.save_for_backward(gradient, weights)
        return total * scale

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradient, weights = ctx.saved_tensors
        factors = (upstream * ctx.scale * weights).to(gradient.dtype)
        return gradient * factors[:, None, None], *[None] * 7


def distill(
    student: Tensor,
    teacher: Tensor,
    center: Tensor | None,
    weights: Tensor | None,
    others: bool,
    scale: float,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Sum of cross-entropies with the teacher's softmax, outside autocast; only the student gets gradients.

    Args:
        student: (G, V, K) logits of V views in each of G groups.
        teacher: (G, T, K) logits of the teacher; T <= V where ``others`` is set.
        center: (K,) subtracted from the teacher's logits; None subtracts nothing.
        weights: (G,) weight of each group; None weights all by 1.
        others: Whether a student view skips the teacher view with its own number.
        scale: Factor of the sum.
        student_temperature: Above 0.
        teacher_temperature: Above 0.

    Returns:
        Scalar, float32.
    """
    center = teacher.new_zeros(()) if center is None else center
    weights = student.new_ones(len(student), dtype=torch.float32) if weights is None else weights.float()
    with torch.autocast(student.device.type, enabled=False):
        temperatures = student_temperature, teacher_temperature
        loss: Tensor = _Distillation.apply(
            student, teacher.detach(), center.detach(), weights.detach(), others, scale, *temperatures
        )
        return loss
