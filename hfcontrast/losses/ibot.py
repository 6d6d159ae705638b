"""iBOT's self-distillation loss at masked patches (Zhou et al., 2022), as DINOv2 uses it."""

from torch import Tensor

from .soft_targets import distill


def ibot_loss(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor,
    center: Tensor | None = None,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.07,
) -> Tensor:
    """iBOT's cross-entropy between teacher and student at masked patches (Zhou et al., 2022, arXiv:2111.07832, eq. 2).

    For the masked patches n of all images, which the student does not see and the teacher does::

        sum over n of  - w_n  softmax((t_n - c) / tau_t) . log softmax(s_n / tau_s)

    DINOv2's weights are 1 / (images * masked patches of the image): the mean over images, including those without a mask, of
    the mean over their masked patches. Computed in float32 over a few patches at a time, as :func:`~hfcontrast.losses.dino_loss`.

    Args:
        student: (N, K) logits of the student at the masked patches.
        teacher: (N, K) logits of the teacher at the same patches; no gradient reaches them.
        weights: (N,) weight of each patch, >= 0; 0 for padding.
        center: (K,), subtracted from the teacher's logits: their running mean, or :func:`~hfcontrast.losses.sinkhorn_center` of them;
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
    return distill(student.unsqueeze(1), teacher.unsqueeze(1), center, weights, False, 1.0, *temperatures)
