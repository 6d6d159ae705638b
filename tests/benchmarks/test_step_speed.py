"""`hfcontrast bench`: its table is complete, and shows what gradient caching saves."""

import pytest
import torch
from rich.console import Console

from hfcontrast.benchmarks import step as module
from hfcontrast.recipe import load_recipe

TOWER = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
RECIPE = {
    "method": {"name": "clip"},
    "backbone": {"model_type": "clip", "text_config": TOWER, "vision_config": {**TOWER, "patch_size": 8}},
    "data": {"path": "builtin/shapes", "split": "test[:256]", "workers": 0},
    "text": {"vocab_size": 514, "max_length": 24},
    "views": {"all": {"size": 32}},
    "train": {"batch_size": 128, "steps": 1, "device": "cpu"},
}


@pytest.fixture
def console(monkeypatch):
    console = Console(width=140, record=True)
    monkeypatch.setattr(module, "plain_console", lambda **_: console)
    return console


def test_gradient_caching_takes_a_fraction_of_the_memory(tmp_path, monkeypatch, console):
    monkeypatch.chdir(tmp_path)
    figures = module.bench(load_recipe(RECIPE), 0.5, ["train.grad_cache=8"])
    assert figures["memory"] < 0.3
    assert figures["step / floor"] > 0 and figures["gain"] > 0
    text = console.export_text()
    for name in (
        "encoder alone (the floor)",
        "whole training step, train.grad_cache=8",
        "peak memory",
        "waiting for data",
    ):
        assert name in text


SMALL = {
    "method": {"name": "simclr", "hidden_dim": 16, "projection_dim": 8},
    "backbone": {
        "model_type": "resnet",
        "layer_type": "basic",
        "depths": [1],
        "hidden_sizes": [8],
        "embedding_size": 8,
    },
    "data": {"path": "builtin/digits", "split": "train[:64]", "workers": 0},
    "views": {"all": {"size": 16}},
    "train": {"batch_size": 8, "steps": 1, "device": "cpu"},
}


def test_each_setting_is_measured_on_its_own_batches(tmp_path, monkeypatch, console):
    monkeypatch.chdir(tmp_path)
    subject = module.Subject(load_recipe(SMALL, ["train.batch_size=32", "views.all.size=24", "train.accumulation=4"]))
    assert subject.images == 32
    assert [batch["pixel_values"].shape for batch in subject.pixels] == [(8, 2, 3, 24, 24)] * 4
    method, seen, counted = subject.training.method, [], []
    method.register_forward_hook(lambda *_: counted.append("forward"))
    after_step = method.after_step
    method.after_step = lambda outputs, progress: seen.append(len(outputs)) or after_step(outputs, progress)
    before = [value.clone() for value in method.parameters()]
    subject.step()
    assert counted == ["forward"] * 4 and seen == [4]
    assert any(not torch.equal(old, new) for old, new in zip(before, method.parameters()))
    assert all(value.grad is None for value in method.parameters())

    figures = module.bench(load_recipe(SMALL), 0.01, ["train.batch_size=32"])
    assert figures["memory"] > 2.5
    folders = [module.scratch_folder(suffix) for suffix in ("", "_against")]
    assert not any(folder.exists() for folder in folders) and not list(tmp_path.iterdir())


def test_time_is_compared_image_by_image():
    base, other = module.Timing("base", 8, [1.0, 1.0, 2.0]), module.Timing("other", 32, [2.0, 2.0, 4.0])
    assert other.speed == 16 and other.of(base) == 0.5 and base.of(base) == 1
