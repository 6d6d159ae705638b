"""The optimizer step: the order of what it does, and that it is the step one would write by hand."""

import copy

import pytest
import torch

from hfcontrast import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.recipe.optimization import OptimSection
from hfcontrast.testing.small import build, random_batch
from hfcontrast.training.optim import build_optimizer
from hfcontrast.training.schedules import set_schedules
from hfcontrast.training.step import OptimizerStep

PROGRESS = Progress(3, 10, 5)


@pytest.fixture
def method():
    return build(SimCLR, projection_dim=8, hidden_dim=16)


def watched(method, calls):
    """The method, noting which hook is called when, and what it sees."""
    first = next(method.encoder.parameters())
    method.before_step = lambda progress: calls.append(("before_step", progress))
    method.after_step = lambda outputs, progress: calls.append(("after_step", outputs, first.grad))
    return method


def test_hooks_come_in_order_and_see_what_the_contract_says(method):
    calls, settings = [], OptimSection(lr=0.1, clip_grad_norm=1e-3)
    method = watched(method, calls)
    seen = []
    optimizer, first = build_optimizer(method, settings), next(method.encoder.parameters())
    optimizer.register_step_pre_hook(lambda *_: calls.append(("optimizer", first.grad.norm().item())))
    step = OptimizerStep(method, optimizer, settings=settings, on_gradients=seen.append)
    result = step([random_batch(SimCLR, 4)], PROGRESS)
    assert [call[0] for call in calls] == ["before_step", "optimizer", "after_step"]
    assert calls[0][1] is PROGRESS and seen == [3]
    assert calls[1][1] <= 1e-3  # clipped
    (output,), gradient = calls[2][1:]
    assert gradient is None and output is result.outputs[0]
    assert output.embeddings is None and not output.loss.requires_grad and result.loss == output.loss
    assert result.embeddings is not None


def test_it_is_the_step_that_one_would_write(method):
    """Schedules, common clipping, AdamW: bit by bit."""
    settings = OptimSection(lr=0.1, clip_grad_norm=0.5, warmup_epochs=1, weight_decay=0.1, weight_decay_end=0.2)
    by_hand, batch = copy.deepcopy(method), random_batch(SimCLR, 4)
    result = OptimizerStep(method, build_optimizer(method, settings), settings=settings, batch_size=512)(
        [batch], PROGRESS
    )

    optimizer = build_optimizer(by_hand, settings)
    lr = set_schedules(optimizer, settings, 3, 10, 5, 512)
    start_step(by_hand, PROGRESS)
    loss = by_hand(**batch).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
    optimizer.step()
    assert result.lr == lr and result.loss.item() == loss.item()
    for (name, own), expected in zip(method.state_dict().items(), by_hand.state_dict().values(), strict=True):
        assert torch.equal(own, expected), name


def test_without_settings_nothing_is_clipped_and_the_groups_stay(method):
    before = copy.deepcopy(method.state_dict())
    optimizer = torch.optim.SGD(method.parameters(), lr=0.25)
    result = OptimizerStep(method, optimizer)([random_batch(SimCLR, 4)], PROGRESS)
    assert result.lr == 0.25
    assert any(not torch.equal(value, before[name]) for name, value in method.state_dict().items())
