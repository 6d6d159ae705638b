"""A parameter that no gradient reaches is named, on one process and on several."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hfcontrast.errors import TrainingError
from hfcontrast.recipe import load_recipe
from hfcontrast.training.build import build_training
from hfcontrast.training.gradients import GradientWatch
from hfcontrast.training.loop import train


class Sometimes(nn.Module):
    """Uses its second layer when it is told to, and its third one never; the fourth is frozen."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third, self.fourth = (nn.Linear(2, 2) for _ in range(4))
        self.fourth.requires_grad_(False)

    def forward(self, values, both):
        values = self.first(values)
        return (self.second(values) if both else values).sum()


def test_on_one_process_it_is_reported_once_and_the_run_continues(recipe_file, tmp_path, capsys):
    overrides = [f"train.output={tmp_path / 'run'}", "train.steps=2", "eval.baselines=false"]
    training = build_training(load_recipe(recipe_file("simclr"), overrides))
    training.method.extra = nn.Linear(2, 2)
    train(training)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "gradient" in line]
    assert line.startswith("warning: in step 1 no gradient reaches extra.weight, extra.bias: freeze it")


def error_of(frozen: bool, uses: list[bool]) -> str:
    """The error of steps that use the second layer or not, the third one being frozen or not."""
    model = Sometimes()
    model.third.requires_grad_(not frozen)
    parallel, watch = DistributedDataParallel(model), GradientWatch(model)
    try:
        for number, both in enumerate(uses):
            parallel(torch.ones(3, 2), both).backward()
            watch.look(number)
            model.zero_grad()
    except TrainingError as error:
        return str(error)
    return ""


def test_on_two_processes_it_is_an_error_at_any_step_instead_of_torchs(on_processes):
    cases = [(False, [False]), (True, [True, True, False, True]), (True, [True, True])]
    for errors in on_processes(lambda rank: [error_of(frozen, uses) for frozen, uses in cases]):
        first, later, none = errors
        assert first.startswith(
            "in step 1 no gradient reaches second.weight, second.bias, third.weight and 1 more: freeze"
        )
        assert later.startswith("in step 3 no gradient reaches second.weight, second.bias: freeze it")
        assert "several processes" in first and none == ""
