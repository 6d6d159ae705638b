"""DINO's and iBOT's losses against the papers' formulas, written out pair by pair, and Sinkhorn's center."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hfcontrast.losses import dino_loss, ibot_loss, sinkhorn, sinkhorn_center, soft_targets
from hfcontrast.nn import gather

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
    # A center of the teacher's own shape leaves it undecided: both distributions are (1/2, 1/2) for teacher 1.
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
    monkeypatch.setattr(soft_targets, "ROWS_AT_ONCE", rows)
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


def test_no_gradient_reaches_teacher_or_center():
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


def ibot_reference(student, teacher, weights, center, student_temperature, teacher_temperature):
    """Equation 2: cross-entropies of the patches, one after the other."""
    total = 0 * student.sum()
    for s, t, w in zip(student, teacher, weights):
        wanted = ((t - center) / teacher_temperature).softmax(0)
        total = total - w * (wanted * (s / student_temperature).log_softmax(0)).sum()
    return total


@pytest.mark.parametrize("patches, prototypes", [(0, 5), (1, 1), (1, 7), (9, 11), (30, 3)])
@pytest.mark.parametrize("temperatures", [(0.1, 0.04), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ibots_value_and_gradient_are_those_of_the_formula(patches, prototypes, temperatures, dtype):
    student = torch.randn(patches, prototypes, dtype=dtype, requires_grad=True)
    teacher, center = torch.randn(patches, prototypes, dtype=dtype), torch.randn(prototypes, dtype=dtype)
    weights = torch.rand(patches, dtype=dtype)
    exact = student.detach().double().requires_grad_()
    expected = ibot_reference(exact, teacher.double(), weights.double(), center.double(), *temperatures)
    expected.backward()
    loss = ibot_loss(student, teacher, weights, center, *temperatures)
    assert loss.dtype == torch.float32
    (3 * loss).backward()
    assert student.grad.dtype == dtype
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(student.grad.double(), 3 * exact.grad, rtol=1e-4, atol=1e-4)


def test_ibots_value_computed_by_hand():
    # Teacher (3/4, 1/4) and (1/2, 1/2); student (1/2, 1/2) and (3/4, 1/4). The first image has both patches' weight of 1/2 and
    # there are two images: (log 2 + 0.836988) / 4 = 0.382534. A third row is padding.
    log3 = torch.tensor(3.0).log()
    teacher = torch.tensor([[0.07 * log3, 0.0], [0.0, 0.0], [5.0, 0.0]])
    student = torch.tensor([[0.0, 0.0], [0.1 * log3, 0.0], [0.0, 9.0]], requires_grad=True)
    loss = ibot_loss(student, teacher, torch.tensor([0.25, 0.25, 0.0]))
    assert loss.item() == pytest.approx((math.log(2) + 0.836988) / 4, abs=1e-6)
    loss.backward()
    # d/ds = w (p - q) / tau_s: 0.25 * (1/2 - 3/4) / 0.1 for the first logit.
    torch.testing.assert_close(student.grad, torch.tensor([[-0.625, 0.625], [0.625, -0.625], [0.0, 0.0]]))


def test_without_masked_patches_the_loss_is_zero():
    student = torch.zeros(0, 5, requires_grad=True)
    loss = ibot_loss(student, torch.zeros(0, 5), torch.zeros(0))
    loss.backward()
    assert loss.item() == 0 and student.grad.shape == (0, 5)
    padding = torch.randn(3, 5, requires_grad=True)
    loss = ibot_loss(padding, torch.randn(3, 5), torch.zeros(3))
    loss.backward()
    assert loss.item() == 0 and padding.grad.abs().max() == 0


@pytest.mark.parametrize("rows", [1, 2 * 11, 5 * 11 + 3])
def test_ibots_chunks_do_not_matter(rows, monkeypatch):
    student, teacher, weights = torch.randn(7, 11, requires_grad=True), torch.randn(7, 11), torch.rand(7)
    whole = ibot_loss(student, teacher, weights)
    (whole_gradient,) = torch.autograd.grad(whole, student)
    monkeypatch.setattr(soft_targets, "ROWS_AT_ONCE", rows)
    loss = ibot_loss(student, teacher, weights)
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], whole_gradient)


def test_ibot_with_bf16_and_large_logits():
    student, teacher = torch.randn(6, 9).bfloat16().requires_grad_(), (100 * torch.randn(6, 9)).bfloat16()
    weights, center = torch.rand(6), torch.randn(9)
    exact = student.detach().double().requires_grad_()
    expected = ibot_reference(exact, teacher.double(), weights.double(), center.double(), 0.1, 0.04)
    expected.backward()
    with torch.autocast("cpu", torch.bfloat16):
        loss = ibot_loss(student, teacher, weights, center, 0.1, 0.04)
    loss.backward()
    assert loss.dtype == torch.float32 and student.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=2e-2, atol=1e-3)


def test_ibots_scaled_fp16_gradients_do_not_underflow():
    # A patch's weight is about 1e-4 and a probability over 16384 prototypes 6e-5; fp16 ends at 6e-8.
    student, weights = torch.randn(64, 16384).half().requires_grad_(), torch.full((64,), 1e-4)
    exact = student.detach().float().requires_grad_()
    for logits in (student, exact):
        (65536 * ibot_loss(logits, torch.zeros_like(logits), weights, None, 1.0, 1.0)).backward()
    assert (student.grad.float() - exact.grad).norm() / exact.grad.norm() < 0.01


def test_no_gradient_reaches_ibots_teacher_weights_or_center():
    student, *others = (torch.randn(shape, requires_grad=True) for shape in [(3, 5), (3, 5), (3,), (5,)])
    ibot_loss(student, *others).backward()
    assert all(other.grad is None for other in others) and student.grad.abs().sum() > 0


def test_ibots_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"got \(3, 5\), \(3, 4\) and \(3,\)"):
        ibot_loss(torch.zeros(3, 5), torch.zeros(3, 4), torch.zeros(3))
    with pytest.raises(ValueError, match=r"got \(3, 5\), \(3, 5\) and \(2,\)"):
        ibot_loss(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(2))


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (16, 5), (5, 16)])
@pytest.mark.parametrize("temperature, iterations", [(0.04, 3), (0.07, 1), (1.0, 10)])
def test_sinkhorns_center_makes_the_softmax_its_assignment(shape, temperature, iterations):
    logits = torch.rand(shape) * 2 - 1
    center = sinkhorn_center(logits, temperature, iterations)
    found = ((logits - center) / temperature).softmax(dim=1)
    torch.testing.assert_close(found, sinkhorn(logits, temperature, iterations), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3 * 7, 10**6])
def test_sinkhorns_center_in_chunks_and_in_half_precision(rows, monkeypatch):
    logits = (30 * torch.randn(20, 7)).bfloat16()  # up to 2000 over the temperature: exp would be infinite
    monkeypatch.setattr(soft_targets, "ROWS_AT_ONCE", rows)
    with torch.autocast("cpu", torch.bfloat16):
        center = sinkhorn_center(logits, 0.04)
    assert center.dtype == torch.float32 and torch.isfinite(center).all()
    expected = sinkhorn(logits.float(), 0.04)
    torch.testing.assert_close(((logits.float() - center) / 0.04).softmax(1), expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("cut", [0, 5])
def test_sinkhorns_center_over_two_processes(cut, on_processes):
    logits = torch.randn(8, 6)
    parts = logits[:cut], logits[cut:]

    def process(rank):
        return sinkhorn_center(parts[rank], 0.1, over_processes=lambda sums: gather(sums[None]).logsumexp(dim=0))

    for center in on_processes(process):
        torch.testing.assert_close(center, sinkhorn_center(logits, 0.1))


def test_sinkhorns_center_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match=r"got \(3, 4, 2\), 3"):
        sinkhorn_center(torch.zeros(3, 4, 2), 0.1)
    with pytest.raises(ValueError, match=r"got \(3, 4\), 0"):
        sinkhorn_center(torch.zeros(3, 4), 0.1, iterations=0)


class LargestFloat32(TorchDispatchMode):
    """Notes the largest float32 tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple) else (result,):
            if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
                self.elements = max(self.elements, value.numel())
        return result


def test_no_float32_copy_of_all_logits_is_made(monkeypatch):
    monkeypatch.setattr(soft_targets, "ROWS_AT_ONCE", 1000)
    student, teacher = torch.randn(40, 4, 100).bfloat16().requires_grad_(), torch.randn(40, 2, 100).bfloat16()
    with LargestFloat32() as seen:
        center = sinkhorn_center(teacher.flatten(0, 1), 0.1)
        dino_loss(student, teacher, center, 0.1, 0.1).backward()
        ibot_loss(student[:, 0], teacher[:, 0], torch.ones(40), center).backward()
    assert 100 < seen.elements <= 1000
