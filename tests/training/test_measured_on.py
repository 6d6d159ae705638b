"""Scores carry what they were measured on: those of other rows, settings or code never stand beside today's."""

import json
import shutil

import pytest
from datasets import ClassLabel, Dataset
from test_signals import Scored, tiny_training
from tiny_runs import RECIPES, metrics

from hfcontrast.data.sources import load_rows
from hfcontrast.evaluation.knn import KNN
from hfcontrast.evaluation.registry import code_of
from hfcontrast.recipe import load_recipe
from hfcontrast.run_training import run_training
from hfcontrast.training import loop
from hfcontrast.training.baseline import changed_kinds, fully_equal, set_evaluations_aside, told_changes

NOW = {"images": ["digits", 7], "knn": [20, 0.07], "rows": ["a", "b"], "code.knn": "1"}


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, []),
        ({"rows": ["a", "c"]}, ["rows"]),
        ({"code.knn": "2"}, ["code.knn"]),
        ({"images": ["digits", 8], "knn": [5, 0.07]}, ["images", "knn"]),
        ({"linear": None, "code.linear": "1"}, []),  # an evaluator that is new
    ],
)
def test_what_has_changed_is_named(changes, kinds):
    assert changed_kinds(NOW, NOW | changes) == kinds and fully_equal(NOW, NOW | changes) == (not kinds)


def test_what_has_changed_is_called_as_recipes_call_it():
    source = {"path": "a", "data_dir": None}
    images = [["a (test)", source, [80, 20], None, 100], [32, 0.9, [0.5], [0.5]]]
    before = {"images": images, "rows": ["x", None, "y"], "knn": {"k": 20, "temperature": 0.07}, "code.zero_shot": "1"}

    def told(of_source=None, prepared=None, **changes):
        now = [of_source or images[0], prepared or images[1]]
        return told_changes(before, before | {"images": now} | changes)

    assert told(["a (test)", source, [80, 20], None, 50]) == ["eval.max_test"]
    other = ["b (test)", source | {"path": "b"}, [80, 30], 60, 100]
    assert told(other, rows=["z", None, "y"]) == ["eval.path", "eval.max_train"]
    assert told(["a (dev)", source, [80, 10], None, 100]) == ["eval.split"]
    assert told([*images[0], "drawn by class"]) == ["how rows are drawn"]
    assert told(prepared=[64, 0.9, [0.5], [0.5]]) == ["the preparation of the images"]
    assert told(rows=["z", None, "y"]) == ["the rows themselves"]
    assert told(knn={"k": 5, "temperature": 0.07}) == ["eval.tasks.knn.k"]
    assert told(**{"code.zero_shot": "2"}) == ["the code of zero-shot"]
    assert told_changes({"images": ["digits", 64]}, {"images": ["digits", 8]}) == [
        "the images"
    ]  # of an earlier version


@pytest.mark.parametrize("lacking", ["rows", "code.knn"])
def test_scores_without_a_record_of_their_rows_or_code_are_no_baseline(lacking, recipe_file, tmp_path, capsys):
    """An earlier version wrote none: the run is resumed, and the baseline measured again."""
    loop.train(tiny_training(recipe_file, tmp_path, "train.steps=1"), Scored(lambda thorough: None, NOW))
    file = max((tmp_path / "run" / "checkpoints").glob("step_*")) / "run.json"
    calls = []

    def resumed(change):
        training = tiny_training(recipe_file, tmp_path, "train.steps=1")
        checkpoint = training.checkpoints.newest()
        notes = training.checkpoints.notes(checkpoint)
        change(notes)
        training.checkpoints.replace_notes(checkpoint, notes)
        loop.begin(training, Scored(calls.append, NOW))
        return json.loads(file.read_text())["notes"]

    kept = resumed(lambda notes: notes["untrained"].update(knn_accuracy=0.9))
    assert not calls and kept["untrained"] == {"knn_accuracy": 0.9}

    def as_before(notes):
        for name in ("conditions", "untrained_conditions"):
            notes[name].pop(lacking)

    again = resumed(as_before)
    assert calls == [True] and again["untrained"] == {"knn_accuracy": 0.5} and again["untrained_conditions"] == NOW
    assert "rows that are evaluated on" not in capsys.readouterr().err  # nothing is known to have changed


def test_another_version_of_an_evaluator_is_other_code(monkeypatch):
    before = code_of(KNN())
    monkeypatch.setattr(KNN, "version", 2)
    assert before.startswith("hfcontrast ") and code_of(KNN()) != before


def labeled(folder, first):
    """Digits with the labels of others, as many and of the same name as before."""
    shutil.rmtree(folder, ignore_errors=True)
    rows = load_rows("builtin/digits", split=f"train[{first}:{first + 40}]").dataset
    labels = [number % 2 for number in range(40)]
    for split in ("train", "test"):
        own = {"image": rows["image"], "label": labels[::-1] if split == "test" else labels}
        Dataset.from_dict(own).cast_column("image", rows.features["image"]).cast_column(
            "label", ClassLabel(names=["even", "odd"])
        ).select(range(0, 40, 2) if split == "test" else range(1, 40, 2)).save_to_disk(folder / split)


def test_rows_that_have_changed_are_measured_again_and_curves_are_not_mixed(tmp_path, capsys):
    values = "train: {batch_size: 16, steps: 2, log_every: 1, device: cpu}\ndata: {path: builtin/digits, split: 'train[:64]'}\n"
    (tmp_path / "recipe.yaml").write_text(
        RECIPES["simclr"] + values + f"eval: {{path: {tmp_path / 'data'}, every: 1}}\n"
    )

    def scores(output):
        run_training(load_recipe(tmp_path / "recipe.yaml", [f"train.output={tmp_path / output}"]))
        found = json.loads((tmp_path / output / "result.json").read_text())
        return found["scores"], found["measured_on"]

    labeled(tmp_path / "data", 0)
    _, first = scores("run")
    labeled(tmp_path / "data", 50)  # of as many rows
    capsys.readouterr()
    again, measured = scores("run")
    assert "those in metrics.jsonl until now are called former_eval there" in capsys.readouterr().err
    fresh, of_fresh = scores("fresh")
    assert again == fresh and measured == of_fresh != first
    assert measured["test"]["rows"] == first["test"]["rows"] == 20
    assert measured["test"]["fingerprint"] != first["test"]["fingerprint"]
    kinds = [("eval" in line, "former_eval" in line) for line in metrics(tmp_path / "run") if "loss" not in line]
    assert kinds == [(False, True), (False, True), (True, False)]


def test_evaluations_are_set_aside(tmp_path):
    file = tmp_path / "metrics.jsonl"
    set_evaluations_aside(file)
    assert not file.exists()
    file.write_text('{"step": 1, "loss": 2.0}\n{"step": 1, "eval": {"knn_accuracy": 0.5}}\n{"st')
    set_evaluations_aside(file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 2.0}, {"step": 1, "former_eval": {"knn_accuracy": 0.5}}]
