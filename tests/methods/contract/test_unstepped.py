"""The warning for a loop that trains a method without beginning its steps: when it comes, and that our own loops never see it."""

import warnings

import pytest
import torch

from hfcontrast import Progress, get_method
from hfcontrast.integrations import StepCalls
from hfcontrast.testing.small import TINY_BACKBONE, build, random_batch
from hfcontrast.training.step import OptimizerStep

MAE = {"decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2}
VIT = {
    **{key: value for key, value in TINY_BACKBONE.items() if key != "patch_size"},
    "patch_size": 8,
    "model_type": "vit_mae",
    "intermediate_size": 64,
}


def called(name, options, passes, backbone=None):
    """The warnings of so many forward passes in training mode."""
    method = build(get_method(name), backbone, **options)
    batch = random_batch(get_method(name), 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(passes):
            method(**batch)
    return [str(warning.message) for warning in caught if "no step has begun" in str(warning.message)]


@pytest.mark.parametrize(
    "name, options, backbone, words",
    [
        ("moco_v2", {"projection_dim": 8, "queue_size": 8}, None, "what it updates after a step"),
        ("mae", MAE, VIT, "its random numbers"),
    ],
)
def test_a_method_that_waits_for_its_steps_warns_once(name, options, backbone, words):
    assert called(name, options, 2, backbone) == []
    (text,) = called(name, options, 6, backbone)
    assert words in text and "MethodCallback" in text and "StepCalls" in text


def test_a_method_without_hooks_never_does():
    assert called("simclr", {"projection_dim": 8, "hidden_dim": 16}, 5) == []


def test_passes_that_are_no_training_and_steps_that_begin_are_quiet():
    method = build(get_method("moco_v2"), projection_dim=8, queue_size=8)
    batch = random_batch(type(method), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with torch.no_grad():
            for _ in range(4):
                method(**batch)
        method.eval()
        for _ in range(4):
            method(**batch)
        method.train()
        step = OptimizerStep(method, torch.optim.SGD(method.parameters(), lr=0.1))
        for number in range(4):
            step([batch], Progress(number, 4))
        calls = StepCalls(method)
        for number in range(4):
            calls.begin(Progress(number, 4))
            calls.collect(method(**batch))
            calls.end()
