"""DINO's loss against the paper's formula, written out pair by pair."""

import pytest
import torch

from hfcontrast.losses import dino_loss, distillation

SHAPES = [(1, 1, 2), (1, 2, 2), (3, 2, 2), (3, 2, 6), (2, 3, 5), (2, 1, 4), (2, 3, 3)]  # (B, T, V)


def reference(student, teacher, center, student_temperature, teacher_temperature):
    """Equation 3: cross-entropies of all pairs of a teacher view and another student view, averaged."""
    losses = []
    for image in range(len(student)):
        for u in range(teacher.shape[1]):
            wanted = ((teacher[image, u] - center) / teacher_temperature).softmax(0)
            for v in range(student.shape[1]):
                if v != u:
                    losses.append(-(wanted * (student[image, v] / student_temperature).log_softmax(0)).sum())
    return torch.stack(losses).mean()


def random_case(images, teachers, views, prototypes=11, dtype=torch.float32):
    student = torch.randn(images, views, prototypes, dtype=dtype, requires_grad=True)
    return student, torch.randn(images, teachers, prototypes, dtype=dtype), torch.randn(prototypes, dtype=dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperatures", [(0.1, 0.04), (0.5, 0.07), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_those_of_the_formula(shape, temperatures, dtype):
    student, teacher, center = random_case(*shape, dtype=dtype)
    exact = student.detach().double().requires_grad_()
    expected = reference(exact, teacher.double(), center.double(), *temperatures)
    expected.backward()
    loss = dino_loss(student, teacher, center, *temperatures)
    assert loss.dtype == torch.float32
    (3 * loss).backward()
    assert student.grad.dtype == dtype
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(student.grad.double(), 3 * exact.grad, rtol=1e-4, atol=1e-4)


def test_value_computed_by_hand():
    # Teacher: (1/2, 1/2) and (3/4, 1/4). Student: (1/2, 1/2) and (3/4, 1/4). The pairs of different views:
    #   teacher 0, student 1: -(log(3/4) + log(1/4)) / 2 = 0.836988
    #   teacher 1, student 0: log 2                      = 0.693147;   their mean is 0.765068.
    log3 = torch.tensor(3.0).log()
    teacher = torch.tensor([[[0.0, 0.0], [0.04 * log3, 0.0]]])
    student = torch.tensor([[[0.0, 0.0], [0.1 * log3, 0.0]]])
    assert dino_loss(student, teacher, torch.zeros(2), 0.1, 0.04).item() == pytest.approx(0.765068, abs=1e-6)
    # A centre of the teacher's own shape leaves it undecided: both distributions are (1/2, 1/2) for teacher 1.
    center = torch.tensor([0.04 * log3, 0.0])
    undecided = teacher.clone()
    undecided[0, 0] = center
    expected = (0.836988 + 0.693147) / 2
    assert dino_loss(student, undecided, center, 0.1, 0.04).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("rows", [1, 7 * 11, 2 * 6 * 11, 3 * 6 * 11 + 5])
def test_chunks_do_not_matter(rows, monkeypatch):
    student, teacher, center = random_case(7, 2, 6)
    whole = dino_loss(student, teacher, center, 0.1, 0.04)
    (whole_gradient,) = torch.autograd.grad(whole, student)
    monkeypatch.setattr(distillation, "ROWS_AT_ONCE", rows)
    loss = dino_loss(student, teacher, center, 0.1, 0.04)
    (gradient,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(gradient, whole_gradient)


def test_large_logits_stay_finite():
    student, teacher, center = random_case(3, 2, 4)
    student = (student.detach() * 1e4).requires_grad_()
    loss = dino_loss(student, teacher * 1e4, center, 0.1, 0.04)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()
    expected = reference(student.detach().double(), teacher.double() * 1e4, center.double(), 0.1, 0.04)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-3)


def test_bf16_logits():
    student, teacher, center = random_case(4, 2, 6)
    student, teacher = student.detach().bfloat16().requires_grad_(), teacher.bfloat16()
    exact = student.detach().double().requires_grad_()
    expected = reference(exact, teacher.double(), center.double(), 0.1, 0.04)
    expected.backward()
    with torch.autocast("cpu", torch.bfloat16):
        loss = dino_loss(student, teacher, center, 0.1, 0.04)
    loss.backward()
    assert loss.dtype == torch.float32 and student.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=2e-2, atol=1e-4)


def test_scaled_fp16_gradients_do_not_underflow():
    # Over 16384 prototypes a probability is about 6e-5, over the number of pairs 5e-7: fp16 ends at 6e-8. A loss scaler
    # multiplies by 65536 to prevent that, and must not come too late.
    student, teacher, center = random_case(64, 2, 2, prototypes=16384)
    student, teacher = student.detach().half().requires_grad_(), teacher * 0
    exact = student.detach().float().requires_grad_()
    (65536 * dino_loss(exact, teacher, 0 * center, 1.0, 1.0)).backward()
    (65536 * dino_loss(student, teacher.half(), 0 * center, 1.0, 1.0)).backward()
    error = (student.grad.float() - exact.grad).norm() / exact.grad.norm()
    assert error < 0.01


def test_no_gradient_reaches_teacher_or_centre():
    student, teacher, center = random_case(2, 2, 4)
    teacher.requires_grad_()
    center.requires_grad_()
    dino_loss(student, teacher, center, 0.1, 0.04).backward()
    assert teacher.grad is None and center.grad is None and student.grad.abs().sum() > 0


def test_without_gradients_only_the_value_is_computed():
    student, teacher, center = random_case(2, 2, 4)
    value = dino_loss(student, teacher, center, 0.1, 0.04)
    frozen = dino_loss(student.detach(), teacher, center, 0.1, 0.04)
    assert torch.equal(value.detach(), frozen) and not frozen.requires_grad


@pytest.mark.parametrize("teachers, views", [(1, 1), (3, 2)])
def test_views_without_a_pair_are_refused(teachers, views):
    with pytest.raises(ValueError, match=f"got {teachers} teacher and {views} student views"):
        dino_loss(torch.zeros(2, views, 5), torch.zeros(2, teachers, 5), torch.zeros(5), 0.1, 0.04)
