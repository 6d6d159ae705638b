"""The calls around a step: a loop of one's own that makes them is the optimizer step, and what is called out of order is said."""

import pytest
import torch

from hfcontrast import Progress, get_method
from hfcontrast.errors import TrainingError
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
