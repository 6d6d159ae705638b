"""SEED's loss against the paper's formulas, one similarity at a time, and its bounds."""

import math

import pytest
import torch

from hfcontrast.losses import seed_loss


def unit(vector):
    return vector / vector.norm()


def reference(students, teachers, queue, student_temperature, teacher_temperature):
    """Equations 5 to 7: the queue with the image's own feature at its end, two distributions over it, their cross-entropy."""
    total = 0
    for student, teacher in zip(students, teachers):
        student, teacher = unit(student), unit(teacher)
        rows = [*map(unit, queue), teacher]
        p_teacher = [torch.exp(teacher @ row / teacher_temperature) for row in rows]
        p_student = [torch.exp(student @ row / student_temperature) for row in rows]
        for t, s in zip(p_teacher, p_student):
            total = total - t / sum(p_teacher) * torch.log(s / sum(p_student))
    return total / len(students)


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("temperatures", [(0.2, 0.1), (1.0, 0.5)])
def test_value_and_gradient_are_those_of_the_formula(rows, temperatures, agree):
    teachers, queue = torch.randn(3, 4), torch.randn(rows, 4)
    agree(
        lambda s: seed_loss(
            s, *(v.double() if s.dtype == torch.float64 else v for v in (teachers, queue)), *temperatures
        ),
        lambda s: reference(s, teachers.double(), queue.double(), *temperatures),
        torch.randn(3, 4),
    )


def test_a_value_computed_by_hand():
    """Teacher (1, 0), queue {(0, 1)}: its distribution is softmax(0, 1) at tau 1; the student (0, 1) has softmax(1, 0)."""
    loss = seed_loss(torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 1.0, 1.0)
    e = math.e
    expected = -(1 / (1 + e)) * math.log(e / (1 + e)) - (e / (1 + e)) * math.log(1 / (1 + e))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_it_is_the_teachers_entropy_for_a_student_that_is_the_teacher_and_more_for_any_other():
    torch.manual_seed(0)
    teachers, queue = torch.randn(5, 4).double(), torch.nn.functional.normalize(torch.randn(7, 4).double(), dim=1)
    rows = torch.nn.functional.normalize(teachers, dim=1)
    shares = torch.stack([(torch.cat([queue, row[None]]) @ row / 0.3).softmax(0) for row in rows])
    entropy = -(shares * shares.log()).sum(1).mean()
    torch.testing.assert_close(seed_loss(3 * teachers, teachers, queue, 0.3, 0.3), entropy)
    assert all(seed_loss(torch.randn(5, 4).double(), teachers, queue, 0.3, 0.3) > entropy for _ in range(5))
    nowhere = seed_loss(torch.zeros(5, 4).double(), teachers, queue, 0.3, 0.3)  # similarities that are all alike
    assert nowhere.item() == pytest.approx(math.log(8))
    assert (
        seed_loss(torch.randn(5, 4), teachers.float(), torch.zeros(0, 4), 0.2, 0.01).item() == 0
    )  # nothing to compare


def test_no_gradient_reaches_teacher_and_queue_and_other_shapes_are_refused():
    students, teachers, queue = (torch.randn(3, 4, requires_grad=True) for _ in range(3))
    seed_loss(students, teachers, queue, 0.2, 0.01).backward()
    assert teachers.grad is None and queue.grad is None and torch.isfinite(students.grad).all()
    with pytest.raises(ValueError, match=r"\(3, 4\), \(2, 4\) and \(3, 4\)"):
        seed_loss(students, teachers[:2], queue, 0.2, 0.01)
