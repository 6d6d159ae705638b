"""A run of a method that predicts something leaves an image of it; and its data statistics are the same on all processes."""

import json

import pytest
from PIL import Image
from test_processes import assert_close_runs
from tiny_runs import run

from hfcontrast.recipe import load_recipe
from hfcontrast.run_visualization import undistorted_batch, write_predictions
from hfcontrast.training.build import build_training

IGPT = """
method: {name: igpt, num_clusters: 5}
backbone: {model_type: imagegpt, n_embd: 8, n_layer: 2, n_head: 1, resid_pdrop: 0.0, embd_pdrop: 0.0, attn_pdrop: 0.0}
views: {all: {size: 8}}
optim: {lr: 0.01}
data: {path: builtin/digits, split: "train[:64]", workers: 0}
train: {batch_size: 16, steps: 3, log_every: 1, device: cpu}
eval: {max_train: 32, max_test: 32, baselines: false}
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("igpt")
    (folder / "igpt.yaml").write_text(IGPT)
    for processes in (1, 2):
        code, output = run(folder / "igpt.yaml", folder / str(processes), processes=processes)
        assert code == 0, output
    return folder / "1", folder / "2"


def test_two_processes_measure_and_train_what_one_does(folders):
    assert_close_runs(*folders)
    measured = [json.loads((folder / "checkpoints" / "measured.json").read_text()) for folder in folders]
    assert measured[0] == measured[1] and len(measured[0]["clusters"]) == 5


def test_the_image_is_in_the_folder_and_on_the_card(folders):
    for folder in folders:
        with Image.open(folder / "predictions.png") as picture:
            assert (
                picture.height > 8 * 96 and picture.width > 5 * 96
            )  # eight samples; given, three completions, original
        assert "](predictions.png)" in (folder / "README.md").read_text()


def test_a_method_without_images_leaves_none(tmp_path):
    recipe = load_recipe(
        {
            "method": {"name": "simclr", "projection_dim": 8},
            "backbone": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8], "depths": [1]},
            "data": {"path": "builtin/digits", "split": "train[:32]", "workers": 0},
            "views": {"view": {"size": 8}},
            "train": {"steps": 1, "batch_size": 8, "device": "cpu", "output": str(tmp_path / "run")},
        }
    )
    training = build_training(recipe)
    assert undistorted_batch(training, training.rows, 5)["pixel_values"].shape == (5, 2, 3, 8, 8)
    assert write_predictions(training, training.rows) is None
    assert not (tmp_path / "run" / "predictions.png").exists()
