"""Which test rows a run was trained on: none where it reads labels and holds a fifth out; else they are counted, and told."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.evaluate_model import evaluate_model
from hfcontrast.data.epoch_order import epoch_order, rows_read
from hfcontrast.methods.contract.arguments import reads_labels
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.methods.supcon import SupCon
from hfcontrast.recipe import load_recipe
from hfcontrast.run_export import export_checkpoint
from hfcontrast.run_training import run_training
from hfcontrast.training.build import build_training
from hfcontrast.training.loop import train

CNN = {"model_type": "resnet", "layer_type": "basic", "depths": [1], "hidden_sizes": [8], "embedding_size": 8}
STEPS, BATCH = 3, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images") / "classes"
    for seed in range(40):
        file = root / "ab"[seed % 2] / f"{seed}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
    return root


def recipe_of(method, folder, output, data=(), evaluation=(), **training):
    return load_recipe(
        {
            "method": {"name": method},
            "backbone": CNN,
            "data": {"path": "imagefolder", "data_dir": str(folder), "workers": 0, **dict(data)},
            "views": {"all": {"size": 16}},
            "optim": {"name": "sgd", "lr": 0.01, "warmup_epochs": 0},
            "train": {"steps": STEPS, "batch_size": BATCH, "device": "cpu", "output": str(output), **training},
            "eval": {"baselines": False, **dict(evaluation)},
        },
        source="recipe.yaml",
    )


def finished(*args, **settings):
    recipe = recipe_of(*args, **settings)
    run_training(recipe)
    return json.loads(open(f"{recipe.train.output}/result.json").read())


def test_rows_that_were_read_are_those_of_the_first_steps():
    expected = np.zeros(10, dtype=bool)
    expected[np.concatenate([epoch_order(5, 0, 10)[:8], epoch_order(5, 1, 10)[:4]])] = True
    assert (rows_read(5, 10, 3, 2, 4) == expected).all() and rows_read(5, 10, 1, 2, 4).sum() == 4
    assert rows_read(5, 10, 50, 2, 4).all() and rows_read(5, 1000, 10**6, 1, 1) is None


def test_a_method_that_reads_labels_is_not_trained_on_the_fifth_that_it_is_evaluated_on(folder, tmp_path, capsys):
    assert reads_labels(SupCon) and not reads_labels(SimCLR)
    result = finished("supcon", folder, tmp_path / "run", steps=12)
    assert result["data"]["rows"] == 32 and result["data"]["held_out"] == 8
    assert result["measured_on"]["test"]["rows"] == 8 and result["measured_on"]["train"]["rows"] == 32
    assert result["evaluation"]["trained_on"] == 0
    card = (tmp_path / "run" / "README.md").read_text()
    assert "32 images" in card and "Further 8 images of the split" in card and "trained on all" not in card
    assert "too, their labels" not in capsys.readouterr().out
    report = evaluate_model(str(tmp_path / "run"), DataSource("imagefolder", data_dir=str(folder)), device="cpu")
    assert "trained_on" not in report
    exported = export_checkpoint(tmp_path / "run")
    assert "Further 8 images of the split" in (exported / "README.md").read_text()


def test_a_run_with_labels_that_was_begun_on_all_rows_is_resumed_on_them(folder, tmp_path, capsys):
    before = recipe_of("supcon", folder, tmp_path / "run", steps=2, checkpoint_every=1)
    train(build_training(before))  # holds nothing out, as earlier versions
    assert build_training(before).rows.num_rows == 40
    result = finished("supcon", folder, tmp_path / "run", steps=6, checkpoint_every=1)
    assert result["data"]["rows"] == 40 and result["evaluation"]["trained_on"] == "all"
    assert "The encoder was trained on all of these test images too, their labels included." in capsys.readouterr().out


def test_test_rows_that_were_read_are_counted_on_screen_and_card_and_by_evaluate(folder, tmp_path, capsys):
    result = finished("simclr", folder, tmp_path / "few", steps=2)
    count = result["evaluation"]["trained_on"]
    assert result["data"]["rows"] == 40 and 0 < count < 8
    told = f"The encoder was trained on {count} of the 8 test rows too, without their labels."
    assert told in capsys.readouterr().out and told in (tmp_path / "few" / "README.md").read_text()
    report = evaluate_model(str(tmp_path / "few"), DataSource("imagefolder", data_dir=str(folder)), device="cpu")
    assert report["trained_on"] == told
    moved = shutil.copytree(folder, tmp_path / "other")
    (moved / "a" / "0.png").unlink()
    report = evaluate_model(str(tmp_path / "few"), DataSource("imagefolder", data_dir=str(moved)), device="cpu")
    assert "trained_on" not in report


def test_labeled_rows_of_eval_split_that_were_trained_on_are_told(folder, tmp_path, capsys):
    data, evaluation = {"split": "train"}, {"split": "train[15:25]"}
    result = finished("supcon", folder, tmp_path / "run", data, evaluation, steps=10)
    assert result["data"]["rows"] == 40 and result["evaluation"]["trained_on"] == "all"
    told = "The encoder was trained on all of these test images too, their labels included."
    assert told in capsys.readouterr().out and told in (tmp_path / "run" / "README.md").read_text()
    source = DataSource("imagefolder", data_dir=str(folder))
    own = {"split": "train[:10]", "train_split": "train[10:]", "device": "cpu"}
    assert "may have been trained on some or all" in evaluate_model(str(tmp_path / "run"), source, **own)["trained_on"]
    elsewhere = {"path": "imagefolder", "data_dir": str(folder), "split": "train[:10]"}
    result = finished("supcon", folder, tmp_path / "named", data, elsewhere, steps=10)
    assert result["evaluation"]["trained_on"] == "all"
