"""Every built-in method resumes exactly after a crash, all its state included, and gradient caching is exact for it.

The crash is an exception in the middle of a step, in this process, which is quick; `test_resume.py` kills whole processes.
"""

import math

import pytest
import torch
from small_methods import SMALL

from hfcontrast.errors import DataError, RecipeError
from hfcontrast.methods import registry
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.arguments import needs_captions
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.recipe import load_recipe
from hfcontrast.training.build import build_training
from hfcontrast.training.loop import train

VIT = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 4}
CNN = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
PATCHES = {**TOWER, "patch_size": 4}
CLIP = {"model_type": "clip", "projection_dim": 8, "text_config": TOWER, "vision_config": {**TOWER, "patch_size": 4}}
SIGLIP = {"model_type": "siglip", "text_config": TOWER, "vision_config": {**TOWER, "patch_size": 4}}
ENCODERS = {"dino": VIT, "dinov2": VIT, "moco_v3": VIT, "clip": CLIP, "siglip": SIGLIP}
ENCODERS |= {"aim": {"model_type": "vit", **PATCHES}, "ijepa": {"model_type": "ijepa", **PATCHES}}
ENCODERS["data2vec"] = {"model_type": "data2vec-vision", **PATCHES, "drop_path_rate": 0.0}
ENCODERS |= {"mae": {"model_type": "vit_mae", **PATCHES}, "simmim": {"model_type": "vit", **PATCHES}}
ENCODERS["igpt"] = {"model_type": "imagegpt", "n_embd": 8, "n_layer": 2, "n_head": 1}
ENCODERS["igpt"] |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
METHODS = [name for name, entry in registry.installed().items() if entry.distribution == "hfcontrast"]


class Crash(Exception):
    """What ends the run in the middle."""


def tiny(name, output, backbone=None, **train_settings):
    views, method = {}, registry.get_method(name)
    images = "builtin/digits"
    if needs_captions(method):
        images, backbone = "builtin/shapes", None
    largest = max(view.size for view in method.views)
    for view in method.views:
        views[view.name] = {"size": 16 if view.size == largest else 8, "count": min(view.count, 2)}
    return load_recipe(
        {
            "method": {"name": name, **SMALL.get(name, {})},
            "backbone": backbone or ENCODERS.get(name, CNN),
            "data": {"path": images, "split": "test[:32]", "workers": 0},
            "text": {"vocab_size": 514, "max_length": 24},
            "views": views,
            "optim": {"name": "sgd", "lr": 0.01, "scale_lr": "none"},
            "train": {"steps": 7, "batch_size": 8, "checkpoint_every": 3, "log_every": 1, "device": "cpu", "output": str(output), **train_settings},
            "eval": {"baselines": False},
        }
    )  # fmt: skip


class InDouble:
    """Color augmentation whose pixels are in double precision."""

    def __init__(self, augmentation):
        self.augmentation, self.keys = augmentation, augmentation.keys

    def __call__(self, batch, device):
        made = self.augmentation(batch, device)
        return {key: value.double() if value.is_floating_point() else value for key, value in made.items()}


def state(training):
    values = dict(training.method.state_dict())
    for number, slots in training.optimizer.state_dict()["state"].items():
        values |= {f"optimizer.{number}.{key}": torch.as_tensor(value) for key, value in slots.items()}
    return {key: value.clone() for key, value in values.items()}


@pytest.mark.parametrize("name", METHODS)
def test_it_resumes_exactly_after_a_crash(name, tmp_path):
    """Four steps an epoch: the crash comes in the second one, a step after the checkpoint."""
    alone = build_training(tiny(name, tmp_path / "alone"))
    train(alone)

    crashed = build_training(tiny(name, tmp_path / "crashed"))
    after_step, steps = crashed.method.after_step, []

    def crash(outputs, progress):
        steps.append(progress.step)
        if len(steps) == 5:
            raise Crash
        after_step(outputs, progress)

    crashed.method.after_step = crash
    with pytest.raises(Crash):
        train(crashed)

    again = build_training(tiny(name, tmp_path / "crashed"))
    train(again)
    expected, actual = state(alone), state(again)
    assert expected.keys() == actual.keys()
    for key, value in expected.items():
        assert torch.equal(value, actual[key]), f"{key} differs after the crash"
    lines = [line for line in (tmp_path / "crashed" / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    assert len(lines) == 7 and all(math.isfinite(v.item()) for v in expected.values() if v.numel() == 1)


@pytest.mark.parametrize("name", METHODS)
def test_gradient_caching_is_exact(name, tmp_path, monkeypatch):
    """Pieces of three images, from bytes to gradients, against the whole batch at once, in an encoder without batch statistics.

    In double precision, so that what is compared is the computation and not how a CPU rounds it.
    """
    training = build_training(tiny(name, tmp_path / "run", ENCODERS.get(name, VIT), grad_cache=3))
    training.method.double()
    for place, name_, double in ((torch.Tensor, "float", torch.Tensor.double), (torch, "float32", torch.float64)):
        monkeypatch.setattr(place, name_, double)  # methods ask for float32 where autocast would give less
    training.cache.augmentation = InDouble(training.augmentation)
    batch = next(training.loader.iter_from(0))
    start_step(training.method, Progress(0, 10, 4))
    whole = training.method(**training.cache.augmentation(batch, "cpu"))
    whole.loss.backward()
    expected = {key: p.grad.clone() for key, p in training.method.named_parameters() if p.grad is not None}
    training.method.zero_grad()
    assert training.cache.backward(batch).loss.item() == pytest.approx(whole.loss.item(), rel=1e-5, abs=1e-6)
    largest = max(value.abs().max() for value in expected.values())
    for key, parameter in training.method.named_parameters():
        assert (parameter.grad is None) == (key not in expected), key
        if key in expected:
            torch.testing.assert_close(parameter.grad, expected[key], rtol=1e-5, atol=float(largest) * 1e-8, msg=key)


def test_a_bank_needs_images_that_have_numbers(tmp_path):
    recipe = tiny("instdisc", tmp_path / "run")
    recipe.method.num_images = 5000
    with pytest.raises(RecipeError, match="method.num_images is 5000, but .* has 32 images: leave it out"):
        build_training(recipe)
    streamed = tiny("instdisc", tmp_path / "run")
    streamed.data.streaming, streamed.data.epoch_rows = True, 32
    with pytest.raises(RecipeError, match="num_images is None.*data.streaming=false"):
        build_training(streamed)


@pytest.mark.parametrize("name", ["metric_learning", "supcon"])
def test_labels_are_needed_where_a_method_learns_from_them(name, tmp_path, monkeypatch):
    from hfcontrast.data.sources import load_rows

    monkeypatch.setattr("hfcontrast.training.build.check_same_data", None)  # what reads all rows is not reached
    bare = load_rows("builtin/digits", split="train[:32]").dataset.remove_columns("label")
    bare.save_to_disk(tmp_path / "bare")
    bare.add_column("label", [-1] * 32).save_to_disk(tmp_path / "none")
    cases = [
        ("bare", "has none", False),
        ("none", "has only labels below 0", False),
        ("none", "has none in the 32 rows", True),
    ]
    for folder, why, streaming in cases:
        recipe = tiny(name, tmp_path / "run")
        recipe.data.path, recipe.data.split, recipe.data.streaming = str(tmp_path / folder), "train", streaming
        with pytest.raises(DataError, match=f"'{name}' learns from labels, and .* {why}"):
            build_training(recipe)


def test_a_stream_with_labels_in_later_shards_is_trained_on():
    from datasets import Dataset, Features, Image, Value

    from hfcontrast.data.rows import rows_of
    from hfcontrast.methods.supcon import SupCon
    from hfcontrast.training.required_rows import check_required_rows

    for last, labels in ((5, [None] * 63), (None, [None] * 63), (-1, [-1] * 63)):
        values = {"image": [b"x"] * 64, "label": [*labels, last]}
        stream = Dataset.from_dict(values, features=Features({"image": Image(), "label": Value("int64")}))
        rows = rows_of(stream.to_iterable_dataset(num_shards=8), 64, "the stream")
        if last == 5:
            check_required_rows(rows, SupCon, "supcon")
        else:
            with pytest.raises(DataError, match="'supcon' learns from labels, and the stream has none in the 64 rows"):
                check_required_rows(rows, SupCon, "supcon")


def test_captions_are_needed_where_a_method_learns_from_them(tmp_path, monkeypatch):
    from hfcontrast.data.sources import load_rows

    monkeypatch.setattr("hfcontrast.training.build.check_same_data", None)
    rows = load_rows("builtin/digits", split="train[:32]").dataset
    rows.add_column("caption", [None, "", " ", ""] * 8).save_to_disk(tmp_path / "silent")
    recipe = tiny("clip", tmp_path / "run", CLIP)
    recipe.data.path, recipe.data.split = str(tmp_path / "silent"), "train"
    with pytest.raises(DataError, match="'clip' learns from captions, and all those of .* are missing, empty"):
        build_training(recipe)
