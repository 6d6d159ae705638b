"""SEED's loss: a student has the similarities to a queue of features that its teacher has (Fang et al., 2021)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision


@full_precision
def seed_loss(
    students: Tensor, teachers: Tensor, queue: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Cross-entropy between two distributions over a queue of teacher features (SEED, arXiv:2101.04731, eq. 5 to 7).

    With unit vectors s and t of one image, and the queue d_1 ... d_K followed by d_(K+1) = t::

        mean over images of  - sum_j softmax_j(t . d_j / tau_T) log softmax_j(s . d_j / tau_S)

    Args:
        students: (N, D); need not be normalized, nor teachers nor queue. A zero vector stays zero. Half precision is computed in
            float32.
        teachers: (N, D) of the same images; no gradient reaches them.
        queue: (K, D), K >= 0, of earlier images; no gradient reaches it.
        student_temperature: tau_S > 0; 0.2 in the paper.
        teacher_temperature: tau_T > 0; 0.01 in the paper.

    Returns:
        Scalar; never below the mean entropy of the teacher's distributions, which it is where the student has them too: for
        students that are the teachers, at equal temperatures. log(K + 1) for students whose similarities are all alike.

    Raises:
        ValueError: Shapes that do not fit.
    """
    if students.ndim != 2 or students.shape != teachers.shape or queue.ndim != 2 or queue.shape[1] != students.shape[1]:
        raise ValueError(
            "SEED's loss takes students (N, D), teachers (N, D) and a queue (K, D), got "
            f"{tuple(students.shape)}, {tuple(teachers.shape)} and {tuple(queue.shape)}"
        )
    s, t, d = (F.normalize(v, dim=-1) for v in (students, teachers.detach(), queue.detach().to(students.dtype)))
    targets = (_similarities(t, t, d) / teacher_temperature).softmax(dim=1)
    logits = (_similarities(s, t, d) / student_temperature).log_softmax(dim=1)
    return -(targets * logits).sum(dim=1).mean()


def _similarities(vectors: Tensor, own: Tensor, queue: Tensor) -> Tensor:
    """(N, K + 1): of each vector to the queue, and to its own teacher's feature last."""
    return torch.cat([vectors @ queue.T, (vectors * own).sum(dim=1, keepdim=True)], dim=1)
