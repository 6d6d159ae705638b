"""Moving averages of weights, and values that change over a training."""

import math

import pytest
import torch
from torch import nn

from hfcontrast.nn import MomentumUpdate, cosine, linear, momentum_schedule


def test_teachers_follow_their_students():
    pairs = [(nn.Linear(3, 4), nn.Linear(3, 4)), (nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))]
    expected = [[p.detach().clone() for p in teacher.parameters()] for teacher, _ in pairs]
    students = [[p.detach().clone() for p in student.parameters()] for _, student in pairs]
    update = MomentumUpdate(pairs)
    for momentum in (0.9, 0.996, 0.5):
        update(momentum)
        for teacher, student in zip(expected, students):
            for t, s in zip(teacher, student):
                t.copy_(momentum * t + (1 - momentum) * s)
    for (teacher, student), values, kept in zip(pairs, expected, students):
        torch.testing.assert_close([p.detach() for p in teacher.parameters()], values)
        assert all(torch.equal(p, value) for p, value in zip(student.parameters(), kept))


def test_momentum_one_stays_and_zero_copies():
    teacher, student = nn.Linear(3, 4), nn.Linear(3, 4)
    before = teacher.weight.detach().clone()
    update = MomentumUpdate([(teacher, student)])
    update(1.0)
    assert torch.equal(teacher.weight, before)
    update(0.0)
    assert torch.equal(teacher.weight, student.weight)


def test_unequal_modules_are_refused():
    with pytest.raises(ValueError, match="equal shapes"):
        MomentumUpdate([(nn.Linear(3, 4), nn.Linear(4, 3))])


def test_schedules_at_marked_points():
    assert [linear(2.0, 4.0, f) for f in (-1, 0, 0.25, 1, 2)] == [2.0, 2.0, 2.5, 4.0, 4.0]
    assert [cosine(1.0, 0.0, f) for f in (0, 0.5, 1, 7)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    assert cosine(1.0, 0.2, 0.25) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    # BYOL: tau = 1 - (1 - tau_base) * (cos(pi k / K) + 1) / 2
    for fraction in (0.0, 0.1, 0.5, 1.0):
        expected = 1 - (1 - 0.996) * (math.cos(math.pi * fraction) + 1) / 2
        assert momentum_schedule(0.996, fraction) == pytest.approx(expected)
