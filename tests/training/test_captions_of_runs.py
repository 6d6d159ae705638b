"""Captions of runs: those that are cut off are counted, in all places that say what a run did."""

import json

import pytest
from datasets import load_from_disk
from test_every_method import CLIP, Crash

from hfcontrast.data.sources import load_rows
from hfcontrast.recipe import load_recipe
from hfcontrast.run_training import run_training
from hfcontrast.training.build import build_training
from hfcontrast.training.loop import train


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder with 16 images and their captions, of which four have more than 12 tokens."""
    folder = tmp_path_factory.mktemp("pairs")
    load_rows("builtin/shapes", split="train[:16]", captioned=True).dataset.save_to_disk(folder / "short")
    dataset = load_from_disk(folder / "short")
    captions = [f"{'one long word after another ' * 5}{n}" if n % 4 == 0 else f"a thing {n}" for n in range(16)]
    dataset.remove_columns("caption").add_column("caption", captions).save_to_disk(folder / "long")
    return str(folder / "long")


def recipe_of(pairs, folder, **text):
    return load_recipe(
        {
            "method": {"name": "clip"},
            "backbone": CLIP,
            "data": {"path": pairs, "workers": 0},
            "text": {"vocab_size": 600, "max_length": 12, **text},
            "views": {"all": {"size": 16}},
            "train": {"epochs": 2, "batch_size": 8, "checkpoint_every": 1, "log_every": 1, "device": "cpu", "output": str(folder)},
            "eval": {"baselines": False, "retrieval": False},
        }
    )  # fmt: skip


def test_captions_that_are_cut_off_are_told(pairs, tmp_path, capsys):
    run_training(recipe_of(pairs, tmp_path))
    told = "8 of 32 captions that the training read were longer than 12 tokens and cut off"
    assert told in capsys.readouterr().out and f"{told}." in (tmp_path / "README.md").read_text()
    assert json.loads((tmp_path / "result.json").read_text())["captions"] == {"read": 32, "cut_off": 8}
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    logged = [line["captions_cut_off"] for line in lines if "loss" in line]
    assert len(logged) == 4 and logged[1] == 4 and logged[-1] == 8


def test_a_resumed_run_counts_on(pairs, tmp_path):
    training = build_training(recipe_of(pairs, tmp_path))
    after_step = training.method.after_step

    def crash(outputs, progress):
        if progress.step == 2:
            raise Crash
        after_step(outputs, progress)

    training.method.after_step = crash
    with pytest.raises(Crash):
        train(training)
    notes = train(build_training(recipe_of(pairs, tmp_path)))
    assert notes["captions"] == {"read": 32, "cut_off": 8}
