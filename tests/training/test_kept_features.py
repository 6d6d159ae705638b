"""Features of a frozen encoder that are computed once: those that would be computed, for each row and crop, in part and in whole."""

import json

import datasets
import numpy as np
import pytest
import torch

from hfcontrast.data.sources import load_rows
from hfcontrast.errors import RecipeError
from hfcontrast.recipe import load_recipe
from hfcontrast.training import kept_features
from hfcontrast.training.build import build_training
from hfcontrast.training.loop import train

CNN = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "hfcontrast_features"


def recipe(folder, *overrides, **train_settings):
    return load_recipe(
        {
            "method": {"name": "distill", "teacher": CNN, "hidden_dim": 16, "teacher_mean": [0.5] * 3, "teacher_std": [0.3] * 3},
            "backbone": CNN,
            "data": {"path": "builtin/digits", "split": "test[:72]", "workers": 0},
            "views": {"view": {"size": 16, "repeat_after": 2}, "local": {"size": 8}, "teacher": {"size": 24}},
            "optim": {"name": "sgd", "lr": 0.01, "scale_lr": "none"},
            "train": {"steps": 25, "batch_size": 8, "checkpoint_every": 9, "log_every": 1, "device": "cpu", "output": str(folder), **train_settings},
            "eval": {"baselines": False},
        },
        overrides,
    )  # fmt: skip


def test_a_batch_has_what_the_teacher_would_make_of_its_view(tmp_path, cache):
    """In three epochs, of which the third has the crops of the first; the other views are the same to the bit."""
    plain = build_training(recipe(tmp_path / "plain"))
    kept = build_training(recipe(tmp_path / "kept", cache_features=True))
    folder = next(cache.iterdir())
    assert (folder / "features.bin").stat().st_size == 72 * 2 * 1 * 16 * 4
    for step in (0, 10, 20):
        seen, read = (training.augmentation(next(training.loader.iter_from(step)), "cpu") for training in (plain, kept))
        assert {"teacher_pixel_values", *read} == {"teacher_features", *seen}
        for name in ("pixel_values", "local_pixel_values", "index"):
            assert torch.equal(seen[name], read[name])
        made = plain.method.teach(seen["teacher_pixel_values"])
        torch.testing.assert_close(read["teacher_features"], made, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(kept.method(**read).loss, plain.method(**seen).loss, rtol=1e-4, atol=1e-5)


def test_they_are_computed_once_and_a_run_that_was_stopped_goes_on_with_what_is_there(tmp_path, cache, monkeypatch):
    computed = []
    original = kept_features.KeptFeatures.put

    def put(self, crop, rows, features):
        if len(computed) == 3:
            raise KeyboardInterrupt
        computed.append((crop, rows[0]))
        original(self, crop, rows, features)

    monkeypatch.setattr(kept_features.KeptFeatures, "put", put)
    with pytest.raises(KeyboardInterrupt):
        build_training(recipe(tmp_path / "first", cache_features=True))
    assert computed == [(0, 0), (0, 64), (1, 0)]
    computed.clear()
    build_training(recipe(tmp_path / "second", cache_features=True))
    assert computed == [(1, 64)]
    values = np.fromfile(next(cache.iterdir()) / "features.bin", np.float32)
    assert (values.reshape(72, 2, 16) != 0).any(axis=2).all()
    computed.clear()
    build_training(recipe(tmp_path / "third", "views.view.brightness=0.1", "train.batch_size=12", cache_features=True))
    assert computed == []  # neither colors of the student nor batches change what the teacher sees


@pytest.mark.parametrize(
    "change",
    [
        "train.seed=1",
        "views.view.scale=[0.5,1]",
        "views.teacher.size=16",
        "data.split=test[:71]",
        "method.teacher_mean=[0.4,0.4,0.4]",
    ],
)
def test_other_crops_rows_or_normalizations_are_other_features(change, tmp_path, cache):
    build_training(recipe(tmp_path / "first", cache_features=True))
    build_training(recipe(tmp_path / "second", change, cache_features=True))
    assert len(list(cache.iterdir())) == 2
    facts = json.loads((next(cache.iterdir()) / "facts.json").read_text())
    assert str(tmp_path) not in json.dumps(facts)


def test_a_run_on_kept_features_resumes_exactly(tmp_path):
    whole = build_training(recipe(tmp_path / "whole", cache_features=True))
    train(whole)
    again = build_training(recipe(tmp_path / "again", cache_features=True))
    steps, after_step = [], again.method.after_step

    def crash(outputs, progress):
        steps.append(progress.step)
        if len(steps) == 14:
            raise KeyboardInterrupt
        after_step(outputs, progress)

    again.method.after_step = crash
    with pytest.raises(KeyboardInterrupt):
        train(again)
    resumed = build_training(recipe(tmp_path / "again", cache_features=True))
    train(resumed)
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, resumed.method.state_dict()[name]), name


@pytest.mark.parametrize(
    "overrides, told",
    [
        (["views.view.repeat_after="], "views.view.repeat_after says, and it is null"),
        (["views.teacher.grayscale=0.2"], "view 'teacher', whose colors are drawn anew"),
        (["views.teacher.noise=0.2"], "view 'teacher', whose colors are drawn anew"),
        (["views.teacher.hue=0.2"], "view 'teacher', whose colors are drawn anew"),
        (["data.streaming=true", "data.epoch_rows=72"], "rows that have numbers"),
        (["method={name: simclr}", "views={all: {size: 16}}"], "method 'simclr' has no frozen encoder here"),
    ],
)
def test_what_cannot_be_kept_is_refused(overrides, told, tmp_path):
    with pytest.raises(RecipeError, match=told):
        build_training(recipe(tmp_path / "run", *overrides, cache_features=True))


def test_features_that_find_no_room_are_refused(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(kept_features.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(RecipeError, match="the features take 0.00 GB in .* lower repeat_after"):
        build_training(recipe(tmp_path / "run", cache_features=True))


def test_rows_that_cannot_be_read_have_none(tmp_path):
    rows = datasets.Dataset.from_dict({"image": [{"bytes": b"no image", "path": None}] * 2}).cast_column(
        "image", datasets.Image(decode=False)
    )
    whole = load_rows("builtin/digits", split="test[:30]").dataset.select_columns(["image"])
    mixed = datasets.concatenate_datasets([rows, whole])
    mixed.save_to_disk(tmp_path / "mixed")
    settings = [f"data.path={tmp_path / 'mixed'}", "data.split=train", "data.max_unreadable=0.5"]
    training = build_training(recipe(tmp_path / "run", *settings, cache_features=True))
    batch = next(training.loader.iter_from(0))
    assert (batch["teacher_features"] != 0).any(dim=-1).all() and min(batch["index"].tolist()) >= 2
