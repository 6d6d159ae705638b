"""DINO's self-distillation loss over pairs of views (Caron et al., 2021)."""

from torch import Tensor

from .soft_targets import distill


def dino_loss(
    student: Tensor, teacher: Tensor, center: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """DINO's cross-entropy between teacher and student over all pairs of different views (arXiv:2104.14294, eq. 3).

    With teacher views u and student views v::

        mean over images, mean over pairs u != v of  - softmax((t_u - c) / tau_t) . log softmax(s_v / tau_s)

    Computed in float32 over a few images at a time: no float32 copy of all logits is held.

    Args:
        student: (B, V, K) logits of the student; its first T views are the teacher's, in order.
        teacher: (B, T, K) logits of the teacher, T <= V; no gradient reaches them.
        center: (K,), subtracted from the teacher's logits: their running mean, or :func:`~hfcontrast.losses.sinkhorn_center` of them.
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
    return distill(student, teacher, center, None, True, scale, student_temperature, teacher_temperature)
