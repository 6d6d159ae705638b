"""Learning rate and weight decay at marked points."""

import math

import pytest
import torch
from torch import nn

from hfcontrast.recipe.sections import OptimSection
from hfcontrast.training.optim import build_optimizer
from hfcontrast.training.schedules import learning_rate, scaled_lr, set_schedules, weight_decay


def rate(settings, step, total=100, epoch=10, batch=256):
    return learning_rate(settings, step, total, epoch, batch)


def test_scaling_rules():
    assert scaled_lr(0.3, "linear", 1024) == pytest.approx(1.2)
    assert scaled_lr(0.075, "sqrt", 4096) == pytest.approx(4.8)  # SimCLR, appendix B.1
    assert scaled_lr(0.3, "none", 1024) == 0.3


def test_warm_up_then_cosine():
    settings = OptimSection(lr=1.0, warmup_epochs=2, min_lr=0.1)
    assert [rate(settings, step) for step in (0, 5, 10, 19)] == pytest.approx([0.0, 0.25, 0.5, 0.95])
    assert rate(settings, 20) == pytest.approx(1.0)
    assert rate(settings, 60) == pytest.approx(0.55)
    assert rate(settings, 40) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert rate(settings, 100) == pytest.approx(0.1)


def test_warm_up_in_steps_and_constant():
    settings = OptimSection(lr=1.0, warmup_steps=4, schedule="constant", scale_lr="none")
    assert [rate(settings, step) for step in (0, 1, 4, 99)] == pytest.approx([0.0, 0.25, 1.0, 1.0])


def test_drops_at_epochs():
    """MoCo's schedule, an epoch being ten steps: a tenth from epoch 3 on, a hundredth from epoch 4.5 on."""
    settings = OptimSection(lr=1.0, warmup_steps=2, schedule="drops", lr_drops=[3, 4.5], scale_lr="none")
    found = [rate(settings, step) for step in (0, 1, 2, 29, 30, 44, 45, 99)]
    assert found == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01])


def test_drops_and_their_epochs_go_together():
    for settings in ({"schedule": "drops"}, {"lr_drops": [3]}):
        with pytest.raises(ValueError, match="go together"):
            OptimSection(**settings)


def test_no_warm_up_starts_at_the_peak_and_a_long_one_is_cut():
    assert rate(OptimSection(lr=1.0, scale_lr="none"), 0) == 1.0
    long = OptimSection(lr=1.0, warmup_epochs=50, scale_lr="none")
    assert rate(long, 50, total=100) == pytest.approx(0.5)
    assert rate(long, 99, total=100) == pytest.approx(0.99)


def test_min_lr_is_never_scaled():
    settings = OptimSection(lr=1.0, min_lr=0.001, scale_lr="linear")
    assert rate(settings, 0, batch=2560) == pytest.approx(10.0)
    assert rate(settings, 100, batch=2560) == pytest.approx(0.001)


def test_weight_decay():
    assert weight_decay(OptimSection(weight_decay=0.04), 70, 100) == 0.04
    rising = OptimSection(weight_decay=0.04, weight_decay_end=0.4)
    assert [weight_decay(rising, step, 100) for step in (0, 50, 100)] == pytest.approx([0.04, 0.22, 0.4])


def test_both_reach_the_groups_they_are_for():
    model = nn.ModuleDict({"head": nn.Linear(3, 3), "predictor": nn.Linear(3, 3)})
    settings = OptimSection(lr=1.0, weight_decay=0.04, weight_decay_end=0.4, warmup_epochs=2, scale_lr="linear")
    optimizer = build_optimizer(model, settings, ("predictor",))
    assert set_schedules(optimizer, settings, 10, 20, 10, 512) == pytest.approx(1.0)  # half of the warm-up to 2
    expected = {
        (True, True): (1.0, 0.22),
        (False, True): (1.0, 0.0),
        (True, False): (2.0, 0.22),
        (False, False): (2.0, 0.0),
    }
    for group in optimizer.param_groups:
        found = (group["lr"], group["weight_decay"])
        assert found == pytest.approx(expected[group["decayed"], group["scheduled"]])
    before = model["head"].weight.detach().clone()
    set_schedules(optimizer, settings, 0, 20, 10, 512)
    model["head"].weight.grad = torch.ones(3, 3)
    optimizer.step()
    assert torch.equal(model["head"].weight, before)  # the first step of a warm-up has the rate 0


def test_a_warm_up_may_be_a_share_of_the_steps_that_the_run_had_first():
    settings = OptimSection(lr=1.0, warmup_share=0.1, scale_lr="none")
    assert [learning_rate(settings, step, 100, 10, 1) for step in (0, 5, 10)] == [0.0, 0.5, 1.0]
    assert learning_rate(settings, 1, 20, 10, 1) == 0.5
    assert learning_rate(settings, 5, 400, 10, 1, ((0, 100), (50, 400))) == 0.5  # made longer later
    with pytest.raises(ValueError, match="warmup_share and warmup_steps are both set"):
        OptimSection(warmup_share=0.1, warmup_steps=3)
