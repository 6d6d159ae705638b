"""Statistics of the data that are computed before a training: once per run, from all parts of the data, and kept for a resumed run."""

import json

import pytest
import torch
from accelerate import Accelerator

from hfcontrast.data.sources import load_rows
from hfcontrast.methods.igpt import IGPT
from hfcontrast.recipe import load_recipe
from hfcontrast.training.data_statistics import measured_settings, sample_images


@pytest.fixture
def recipe(tmp_path):
    return load_recipe(
        {
            "method": {"name": "igpt", "num_clusters": 4},
            "backbone": {"model_type": "imagegpt", "n_embd": 8, "n_layer": 2, "n_head": 1},
            "data": {"path": "builtin/digits", "split": "train[:40]"},
            "views": {"all": {"size": 8}},
            "train": {"steps": 2, "batch_size": 4, "device": "cpu", "output": str(tmp_path)},
        }
    )


def test_images_come_from_all_parts_of_the_data_without_augmentation():
    rows = load_rows("builtin/digits", split="train[:40]")
    few, all_of_them = sample_images(rows, 16, 4), sample_images(rows, 16)
    assert few.shape == (4, 3, 16, 16) and all_of_them.shape == (40, 3, 16, 16)
    assert torch.equal(few, all_of_them[::10]) and 0 <= few.min() <= few.max() <= 1
    stream = load_rows("builtin/digits", split="train[:40]", streaming=True)
    assert torch.equal(sample_images(stream, 16, 4), all_of_them[:4])


def test_a_resumed_run_keeps_its_data_statistics(recipe, tmp_path):
    rows, accelerator = load_rows("builtin/digits", split="train[:40]"), Accelerator(cpu=True)
    first = measured_settings(recipe, IGPT, rows, 8, accelerator)
    assert len(first["clusters"]) == 4
    file = tmp_path / "checkpoints" / "measured.json"
    file.write_text(json.dumps({"clusters": [[0.0, 0.0, 0.0]]}))
    assert measured_settings(recipe, IGPT, rows, 8, accelerator) == first, "a new run measures anew"
    (tmp_path / "checkpoints" / "step_000000001").mkdir()
    file.write_text(json.dumps({"clusters": [[0.0, 0.0, 0.0]]}))
    assert measured_settings(recipe, IGPT, rows, 8, accelerator) == {"clusters": [[0.0, 0.0, 0.0]]}


def test_what_the_recipe_gives_is_not_measured(recipe):
    recipe.method.clusters = [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    assert measured_settings(recipe, IGPT, load_rows("builtin/digits"), 8, Accelerator(cpu=True)) == {}
