"""`hfcontrast bench`: its table is whole, and shows what gradient caching saves."""

import pytest
from rich.console import Console

from hfcontrast.recipe import load_recipe
from hfcontrast.training import bench as module

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
    monkeypatch.setattr(module, "Console", lambda **_: console)
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
