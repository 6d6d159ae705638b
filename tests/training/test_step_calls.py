"""The calls around a step: a loop of one's own that makes them is the optimizer step, and what is called out of order is said."""

import pytest
import torch

from hfcontrast import Progress, get_method
from hfcontrast.errors import ArgumentError, TrainingError
from hfcontrast.testing.small import build, random_batch
from hfcontrast.training.step import OptimizerStep
from hfcontrast.training.step_calls import StepCalls

SWAV = {
    "prototypes": 12,
    "hidden_dim": 16,
    "projection_dim": 8,
    "queue_length": 8,
    "queue_start_epoch": 0,
    "freeze_prototypes_steps": 1,
}


def test_a_loop_of_ones_own_is_our_step():
    ours, own = (build(get_method("swav"), **SWAV) for _ in range(2))
    batch = random_batch(type(ours), 4)
    step = OptimizerStep(ours, torch.optim.AdamW(ours.parameters(), lr=0.01))
    optimizer, calls = torch.optim.AdamW(own.parameters(), lr=0.01), StepCalls(own)
    for number in range(4):
        progress = Progress(number, 4, 2)
        step([batch], progress)
        calls.begin(progress)
        output = calls.collect(own(**batch))
        output.loss.backward()
        calls.gradients_ready()
        optimizer.step()
        optimizer.zero_grad()
        calls.end()
        assert output.embeddings is not None and calls.outputs[0].embeddings is None
    for (name, value), other in zip(own.state_dict().items(), ours.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_calls_out_of_order_are_said():
    method = build(get_method("simclr"), projection_dim=8, hidden_dim=16)
    calls = StepCalls(method)
    for call in (calls.gradients_ready, calls.end):
        with pytest.raises(TrainingError, match=r"was called before begin\(progress\)"):
            call()
    calls.begin(Progress(0, 1))
    with pytest.raises(TrainingError, match="collect.output. after every forward pass"):
        calls.end()
    with pytest.raises(TrainingError, match="given tuple, expected the MethodOutput"):
        calls.collect((torch.zeros(()),))
    with pytest.raises(ArgumentError, match="begin.. got step 6 of a training of 6 steps, expected 0 to 5"):
        calls.begin(Progress(6, 6))
    with pytest.raises(ArgumentError, match="begin.. got a training of 0 steps"):
        calls.begin(Progress(0, 0))
    with pytest.raises(ArgumentError, match="begin.. got 3, expected a Progress"):
        calls.begin(3)


def test_a_step_that_does_not_end_is_said():
    """A queue would never move; a step that is tried again, as memory ran out, is none that did not end."""
    method = build(get_method("simclr"), projection_dim=8, hidden_dim=16)
    calls, batch = StepCalls(method), random_batch(type(method), 2)
    for _ in range(3):
        calls.begin(Progress(0, 4))
        calls.collect(method(**batch))
    with pytest.raises(TrainingError, match="begin.. of step 1 was called, and step 0 has not ended: call end"):
        calls.begin(Progress(1, 4))
    calls.gradients_ready()  # and so the optimizer's step, in a loop that does not count
    with pytest.raises(TrainingError, match="step 0 has not ended"):
        calls.begin(Progress(0, 4))
    calls.end()
    calls.begin(Progress(1, 4))


def test_the_method_inside_of_a_model_is_taken():
    method = build(get_method("simclr"), projection_dim=8, hidden_dim=16)
    assert StepCalls(torch.nn.Sequential(method)).method is method
    for wrong, name in ((method.encoder, type(method.encoder).__name__), ({}, "dict")):
        with pytest.raises(ArgumentError, match=f"StepCalls: its argument is {name}, expected a method"):
            StepCalls(wrong)
