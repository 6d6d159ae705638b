"""timm's optimizers: what a recipe may set, that they learn, and that they resume."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hfcontrast import Progress
from hfcontrast.errors import RecipeError
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.recipe import load_recipe
from hfcontrast.recipe.sections import OptimSection
from hfcontrast.testing.small import build, random_batch
from hfcontrast.training.build import build_training
from hfcontrast.training.loop import train
from hfcontrast.training.optim import build_optimizer
from hfcontrast.training.step import OptimizerStep


def recipe(**optim):
    settings = {
        "method": {"name": "simclr"},
        "backbone": "timm/resnet18",
        "data": {"path": "builtin/digits"},
        "train": {"steps": 5},
    }
    return load_recipe({**settings, "optim": optim})


def test_settings_that_are_not_given_are_the_optimizers_defaults_and_listed_in_the_resolved_recipe():
    lion = recipe(name="timm/lion")
    assert lion.optim.betas == (0.9, 0.99)
    assert load_recipe(lion.to_dict()).to_dict() == lion.to_dict()
    given = recipe(name="timm/lion", betas=[0.9, 0.999], options={"caution": True})
    assert load_recipe(given.to_dict()).optim.betas == (0.9, 0.999)
    assert recipe(name="timm/adopt").optim.eps == 1e-6
    assert recipe().fingerprint().settings["optim"].keys() & {"options"} == set()  # older hashes stay


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"name": "timm/lyon"}, "optim.name: timm has no optimizer 'lyon'; did you mean 'timm/lion'?"),
        ({"name": "lion"}, "optim.name: expected one of 'adamw', 'lars', 'sgd' or timm/NAME of timm's optimizers, got 'lion'"),
        ({"name": "timm/lion", "momentum": 0.5}, "optim.momentum: timm/lion does not take it: leave it out"),
        ({"name": "timm/lars", "trust_coefficient": 0.1}, "optim.trust_coefficient: timm/lars does not take it"),
        ({"name": "timm/lion", "options": {"cautious": True}}, "timm/lion has no setting 'cautious'; did you mean 'caution'?"),
        ({"name": "timm/lion", "options": {"betas": [0.9, 0.9]}}, "'betas' has a key of its own: set optim.betas"),
        ({"name": "timm/adan", "betas": [0.9, 0.9]}, "does not take it; set it in optim.options, with timm's default (0.98,"),
        ({"name": "timm/muon", "options": {"algo": "moon"}}, "timm refuses these settings of timm/muon: Invalid algo: moon"),
        ({"name": "timm/adahessian"}, "optim.name: timm/adahessian takes second derivatives"),
        ({"options": {"caution": True}}, "optim.options: options are for timm's optimizers, and optim.name is adamw"),
    ],
)  # fmt: skip
def test_what_an_optimizer_does_not_take_is_refused_when_the_recipe_is_read(settings, text):
    with pytest.raises(RecipeError) as error:
        recipe(**settings)
    assert text in str(error.value)


def network():
    torch.manual_seed(0)
    return nn.ModuleDict({"encoder": nn.Linear(8, 8), "norm": nn.LayerNorm(8), "head": nn.Linear(8, 8)})


@pytest.mark.parametrize("name", ["lion", "adopt", "muon"])
def test_parameters_without_weight_decay_keep_their_length_and_the_others_shrink(name):
    """With gradients of zero nothing but the decay moves."""
    model = network()
    settings = OptimSection(name=f"timm/{name}", lr=0.1, weight_decay=0.5, no_decay=["head.weight"])
    optimizer = build_optimizer(model, settings)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for _ in range(2):  # adopt's first step only looks
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    assert moved == {"encoder.weight"}


def test_lion_follows_the_learning_rates_of_its_groups():
    """Every weight moves by exactly the learning rate of its group."""
    model = network()
    optimizer = build_optimizer(model, OptimSection(name="timm/lion", lr=0.1))
    for group, lr in zip(optimizer.param_groups, (0.5, 0.25), strict=True):
        group["lr"] = lr
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for key, value in model.named_parameters():
        lr = 0.5 if value.ndim > 1 else 0.25
        torch.testing.assert_close(before[key] - value, torch.full_like(value, lr))


@pytest.mark.parametrize("name, lr", [("lion", 1e-3), ("muon", 0.01)])
def test_a_method_learns(name, lr):
    """On one batch, with warm-up and cosine, the loss falls by far more than steps differ."""
    method, batch = build(SimCLR, projection_dim=8, hidden_dim=16), random_batch(SimCLR, 8)
    settings = OptimSection(name=f"timm/{name}", lr=lr, warmup_steps=3, weight_decay=0.01, layer_decay=0.9)
    step = OptimizerStep(method, build_optimizer(method, settings), settings=settings, batch_size=256)
    losses = [step([batch], Progress(number, 25, 10)).loss.item() for number in range(25)]
    assert losses[-1] < losses[0] - 0.3, losses


def test_a_run_resumes_bit_by_bit(recipe_file, tmp_path):
    """The second run begins with the first one's checkpoint of step 5, as if it had been killed later."""
    settings = [
        "optim={name: timm/lion, lr: 0.01, warmup_steps: 2, weight_decay: 0.01}",
        "train.keep_checkpoints=3",
    ]

    def finished(output):
        train(build_training(load_recipe(recipe_file("simclr"), [*settings, f"train.output={output}"])))
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        return {line["step"]: line["loss"] for line in lines if "loss" in line}

    first, second = tmp_path / "first", tmp_path / "second"
    losses = finished(first)
    for path in ("recipe.yaml", "checkpoints/step_000000005"):
        (second / path).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (first / path).is_dir() else shutil.copy)(first / path, second / path)
    again = finished(second)
    assert min(again) == 6 and all(losses[step] == loss for step, loss in again.items())
    ends = [load_file(folder / "checkpoints/step_000000014/model.safetensors") for folder in (first, second)]
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
