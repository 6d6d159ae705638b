"""Losses in which a student predicts a teacher's distribution over prototypes: DINO, iBOT, and how targets are balanced."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

ROWS_AT_ONCE = 1 << 22  # logits in float32 at a time: 16 MiB, so that temporaries stay small and near the cores


def _chunks(rows: int, width: int) -> Iterator[slice]:
    """Spans of so many rows of ``width`` logits that at most ROWS_AT_ONCE are looked at together; one row at least."""
    step = max(1, ROWS_AT_ONCE // width)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


class _Distillation(torch.autograd.Function):
    """Cross-entropies summed over pairs of views, value and gradient in one sweep; float32 exists for a few groups at a time.

    Student (G, V, K) and teacher (G, T, K): in each group every student view is to predict every teacher view; with
    ``others`` all of them but the one of its own number. Groups count by ``weights`` (G,), all by ``scale``.
    """

    @staticmethod
    def forward(ctx, student, teacher, center, weights, others, scale, student_temperature, teacher_temperature):
        groups, views, prototypes = student.shape
        targets_each = teacher.shape[1]
        pairs = torch.full((views, 1), float(targets_each), device=student.device)
        if others:
            pairs[:targets_each] -= 1
        gradient = torch.empty_like(student) if student.requires_grad else None
        total = student.new_zeros((), dtype=torch.float32)
        for rows in _chunks(groups, views * prototypes):
            targets = teacher[rows].float().sub(center.float()).div_(teacher_temperature).softmax(dim=-1)
            logits = student[rows].float() / student_temperature
            log_sum = logits.logsumexp(dim=-1, keepdim=True)
            # A view is to predict several teacher views: the sum of their distributions.
            wanted = targets.sum(dim=1, keepdim=True).repeat(1, views, 1) if targets_each + views > 2 else targets
            if others:
                wanted[:, :targets_each] -= targets
            agreement = torch.linalg.vecdot(wanted.flatten(1), logits.flatten(1))
            total += torch.dot(weights[rows], (pairs * log_sum).sum(dim=(1, 2)) - agreement)
            if gradient is not None:
                gradient[rows] = logits.sub_(log_sum).exp_().mul_(pairs).sub_(wanted)
        # Factors come last, together with a loss scaler's: so small, fp16 would round the probabilities to zero.
        ctx.scale = scale / student_temperature
        ctx.save_for_backward(gradient, weights)
        return total * scale

    @staticmethod
    def backward(ctx, upstream):
        gradient, weights = ctx.saved_tensors
        factors = (upstream * ctx.scale * weights).to(gradient.dtype)
        return gradient * factors[:, None, None], *[None] * 7


def _distil(student: Tensor, teacher: Tensor, center: Tensor | None, weights: Tensor | None, *rest) -> Tensor:
    """Outside autocast and without gradients to anything but the student."""
    center = teacher.new_zeros(()) if center is None else center
    weights = student.new_ones(len(student), dtype=torch.float32) if weights is None else weights.float()
    with torch.autocast(student.device.type, enabled=False):
        return _Distillation.apply(student, teacher.detach(), center.detach(), weights.detach(), *rest)


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
        center: (K,) what is subtracted from the teacher's logits: their running mean, or :func:`sinkhorn_center` of them.
        student_temperature: tau_s > 0.
        teacher_temperature: tau_t > 0.

    Returns:
        Scalar, float32.

    Raises:
        ValueError: There is no pair of different views (T = V = 1), or T > V.
    """
    images, views = student.shape[:2]
    global_views = teacher.shape[1]
    if global_views > views or views < 2:
        raise ValueError(f"DINO pairs different views: got {global_views} teacher and {views} student views")
    scale = 1.0 / (images * global_views * (views - 1))
    return _distil(student, teacher, center, None, True, scale, student_temperature, teacher_temperature)


def ibot_loss(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor,
    center: Tensor | None = None,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.07,
) -> Tensor:
    """iBOT's cross-entropy between teacher and student at masked patches (Zhou et al., 2022, arXiv:2111.07832, eq. 2).

    For the masked patches n of all images, whose places the student has to fill in and the teacher sees::

        sum over n of  - w_n  softmax((t_n - c) / tau_t) . log softmax(s_n / tau_s)

    DINOv2's weights are 1 / (images * masked patches of the image): the mean over images, those without a mask included, of
    the mean over their masked patches. Computed in float32 over a few patches at a time, as :func:`dino_loss` is.

    Args:
        student: (N, K) logits of the student at the masked patches.
        teacher: (N, K) logits of the teacher at the same patches; no gradient reaches them.
        weights: (N,) what each patch counts, >= 0; 0 for padding.
        center: (K,) what is subtracted from the teacher's logits: their running mean, or :func:`sinkhorn_center` of them;
            None subtracts nothing.
        student_temperature: tau_s > 0.
        teacher_temperature: tau_t > 0.

    Returns:
        Scalar, float32; 0 when no patch is masked (N = 0).

    Raises:
        ValueError: The shapes differ.
    """
    if student.ndim != 2 or student.shape != teacher.shape or weights.shape != student.shape[:1]:
        raise ValueError(
            f"logits (N, K) of both and weights (N,) are needed, got {tuple(student.shape)}, {tuple(teacher.shape)} and "
            f"{tuple(weights.shape)}"
        )
    temperatures = (student_temperature, teacher_temperature)
    return _distil(student.unsqueeze(1), teacher.unsqueeze(1), center, weights, False, 1.0, *temperatures)


@torch.no_grad()
def sinkhorn_center(
    logits: Tensor, temperature: float, iterations: int = 3, over_processes: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """The center with which a teacher's softmax becomes its Sinkhorn-Knopp assignment (DINOv2, arXiv:2304.07193, section 4).

    Sinkhorn and Knopp scale the prototypes and the samples of exp(t / tau) in turn, the samples last. A scaling of the samples
    is what a softmax does by itself, and one of the prototypes is a vector c subtracted from every sample's logits, so that::

        softmax((t - c) / tau)  =  sinkhorn(t, epsilon=tau, iterations)

    The assignments themselves, as many numbers as there are logits, are never held: c is all that :func:`dino_loss` and
    :func:`ibot_loss` need. The logits are read a few rows at a time, once for each iteration.

    Args:
        logits: (N, K) of the teacher: all that is to be spread over the prototypes, without padding.
        temperature: tau > 0 of the teacher.
        iterations: How often both are scaled, >= 1.
        over_processes: Makes log(sum of exp) over the rows of all processes from that over the rows of this one, (K,) to (K,);
            None for a single process.

    Returns:
        (K,) float32.

    Raises:
        ValueError: No iteration, or not a matrix.
    """
    if logits.ndim != 2 or iterations < 1:
        raise ValueError(f"logits (N, K) and 1 iteration or more are needed, got {tuple(logits.shape)}, {iterations}")
    over_processes = over_processes or (lambda sums: sums)
    prototypes = logits.shape[1]
    logs = logits.new_full((prototypes,), -torch.inf, dtype=torch.float32)
    with torch.autocast(logits.device.type, enabled=False):
        for rows in _chunks(len(logits), prototypes):
            logs = torch.logaddexp(logs, (logits[rows].float() / temperature).logsumexp(dim=0))
        logs = over_processes(logs)
        for _ in range(iterations - 1):
            shares = torch.zeros_like(logs)
            for rows in _chunks(len(logits), prototypes):
                shares += (logits[rows].float() / temperature).sub_(logs).softmax(dim=1).sum(dim=0)
            # No share is 0: after its scaling every prototype has a sample of at least 1 / N, so here of 1 / (N K).
            logs = logs + over_processes(shares.log())
    return logs * temperature
