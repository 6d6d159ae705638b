"""Losses in which a student predicts a teacher's distribution over prototypes."""

import torch
from torch import Tensor

ROWS_AT_ONCE = 1 << 22  # logits in float32 at a time: 16 MiB, so that temporaries stay small and near the cores


class _DINOLoss(torch.autograd.Function):
    """Value and gradient in one sweep over the images; float32 exists for a few images at a time only."""

    @staticmethod
    def forward(ctx, student, teacher, center, student_temperature, teacher_temperature):
        images, views, prototypes = student.shape
        global_views = teacher.shape[1]
        pairs = torch.full((views, 1), float(global_views), device=student.device)
        pairs[:global_views] -= 1
        scale = 1.0 / (images * float(pairs.sum()))
        gradient = torch.empty_like(student) if student.requires_grad else None
        total = student.new_zeros((), dtype=torch.float32)
        step = max(1, ROWS_AT_ONCE // (views * prototypes))
        for rows in torch.arange(images).split(step):
            rows = slice(int(rows[0]), int(rows[-1]) + 1)
            targets = teacher[rows].float().sub(center.float()).div_(teacher_temperature).softmax(dim=-1)
            logits = student[rows].float() / student_temperature
            log_sum = logits.logsumexp(dim=-1, keepdim=True)
            # View v is to predict every teacher view but itself: the sum of their distributions.
            wanted = targets.sum(dim=1, keepdim=True).repeat(1, views, 1)
            wanted[:, :global_views] -= targets
            total += (pairs * log_sum).sum() - torch.dot(wanted.flatten(), logits.flatten())
            if gradient is not None:
                probabilities = logits.sub_(log_sum).exp_().mul_(pairs).sub_(wanted)
                gradient[rows] = probabilities
        # The factor comes last, together with a loss scaler's: so small, fp16 would round the probabilities to zero.
        ctx.scale = scale / student_temperature
        ctx.save_for_backward(gradient)
        return total * scale

    @staticmethod
    def backward(ctx, upstream):
        (gradient,) = ctx.saved_tensors
        return gradient * (upstream * ctx.scale).to(gradient.dtype), None, None, None, None


def dino_loss(
    student: Tensor, teacher: Tensor, center: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """DINO's cross-entropy between teacher and student over all pairs of different views (arXiv:2104.14294, eq. 3).

    With teacher views u and student views v::

        mean over images, mean over pairs u != v of  - softmax((t_u - c) / tau_t) . log softmax(s_v / tau_s)

    Computed in float32 over a few images at a time: no float32 copy of all logits is ever held.

    Args:
        student: (B, V, K) logits of the student; its first T views are the teacher's, in order.
        teacher: (B, T, K) logits of the teacher, T <= V; no gradient reaches them.
        center: (K,) the running mean c that is subtracted from the teacher's logits.
        student_temperature: tau_s > 0.
        teacher_temperature: tau_t > 0.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: There is no pair of different views (T = V = 1), or T > V.
    """
    views, global_views = student.shape[1], teacher.shape[1]
    if global_views > views or views < 2:
        raise ValueError(f"DINO pairs different views: got {global_views} teacher and {views} student views")
    with torch.autocast(student.device.type, enabled=False):
        return _DINOLoss.apply(student, teacher.detach(), center, student_temperature, teacher_temperature)
