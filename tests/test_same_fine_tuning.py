"""A run and `hfcontrast evaluate` of what it has published fine-tune the same, to the bit, whatever the pretraining had frozen."""

import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from PIL import Image as PILImage

from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.evaluate_model import evaluate_model
from hfcontrast.evaluation import finetune_training
from hfcontrast.recipe import load_recipe
from hfcontrast.run_training import run_training

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VIT = {"model_type": "vit", **SIZES, "patch_size": 8}
RESNET = {
    "model_type": "resnet",
    "embedding_size": 16,
    "hidden_sizes": [16, 32],
    "depths": [1, 1],
    "layer_type": "basic",
}
TOWERS = {
    "model_type": "clip",
    "projection_dim": 16,
    "text_config": SIZES,
    "vision_config": {**SIZES, "patch_size": 8},
}
SMALL = {"projection_dim": 8, "hidden_dim": 16}
SETTINGS = {"epochs": 2, "batch_size": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images of two classes with captions, as train and test splits on disk."""
    folder, random = str(tmp_path_factory.mktemp("data")), np.random.RandomState(0)
    features = Features({"image": Image(), "label": ClassLabel(names=["dark", "bright"]), "caption": Value("string")})
    splits = {}
    for split, count in (("train", 32), ("test", 16)):
        pixels = [random.randint(0, 156, (32, 32, 3)) + 100 * (number % 2) for number in range(count)]
        rows = {"image": [PILImage.fromarray(one.astype("uint8")) for one in pixels]}
        rows |= {"label": [i % 2 for i in range(count)], "caption": [f"image {i} of {split}" for i in range(count)]}
        splits[split] = Dataset.from_dict(rows, features=features)
    DatasetDict(splits).save_to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def train(tmp_path_factory, data):
    """Trains by a method and a backbone for three steps; the folder."""
    root = tmp_path_factory.mktemp("runs")

    def run(name, method, backbone):
        recipe = {
            "method": method,
            "backbone": backbone,
            "data": {"path": data},
            "views": {"all": {"size": 32}},
            "optim": {"name": "adamw", "lr": 0.01},
            "train": {"batch_size": 16, "steps": 3, "device": "cpu", "output": str(root / name)},
            "eval": {"finetune": SETTINGS, "baselines": False},
        }
        if method["name"] == "clip":
            recipe["data"]["caption_column"] = "caption"
            recipe["text"] = {} if "pretrained" in backbone else {"vocab_size": 600, "max_length": 16}
        run_training(load_recipe(recipe))
        return root / name

    return run


@pytest.fixture
def same(train, data, monkeypatch):
    """Trains, evaluates what was published, and compares: figures, what was tuned, and the weights that fine-tuning ended with."""
    ended, fit = [], finetune_training.fit
    monkeypatch.setattr(finetune_training, "fit", lambda model, *rest: (fit(model, *rest), ended.append(model))[0])

    def check(name, method, backbone, tuned=None):
        folder = train(name, method, backbone)
        report = evaluate_model(
            str(folder), DataSource(path=data), tasks=["finetune"], settings={"finetune": SETTINGS}, device="cpu"
        )
        result = json.loads((folder / "result.json").read_text())
        assert report["scores"]["finetune"]["accuracy"] == result["scores"]["trained"]["finetune_accuracy"]
        assert report["counts"]["finetune"]["accuracy"] == result["counts"]["finetune_accuracy"]
        assert result["counts"]["finetune_accuracy"].get("tuned") == tuned
        assert (f"tuned {tuned}" if tuned else "end to end") in (folder / "README.md").read_text()
        run, evaluated = (model.state_dict() for model in ended[-2:])
        assert {name for name in run.keys() ^ evaluated.keys() if ".pooler." not in name} == set()
        assert all(torch.equal(run[name], evaluated[name]) for name in run.keys() & evaluated.keys())
        return {name for name, parameter in ended[-2].named_parameters() if parameter.requires_grad}

    return check


def test_what_only_the_pretraining_froze_is_trained(same):
    trained = same("moco_v3", {"name": "moco_v3", **SMALL}, VIT)
    assert {
        f"encoder.embeddings.{part}" for part in ("position_embeddings", "patch_embeddings.projection.weight")
    } <= trained


def test_teachers_and_batch_norm(same):
    same("byol", {"name": "byol", **SMALL}, RESNET)


def test_adapters_are_tuned_as_new_ones(same, train):
    base = train("base", {"name": "simclr", "projection_dim": 8}, VIT)
    backbone = {"pretrained": str(base), "lora": {"r": 2}}
    trained = same("lora", {"name": "simclr", "projection_dim": 8}, backbone, "new adapters of rank 2")
    assert trained and all(".lora_" in name or name.startswith("head.") for name in trained)


def test_two_towers_with_a_locked_one_and_with_adapters(same, train):
    base = {"pretrained": str(train("towers", {"name": "clip"}, TOWERS))}
    trained = same("locked", {"name": "clip"}, {**base, "locked": ["vision"]}, "all but the locked image tower")
    assert "encoder.visual_projection.weight" in trained
    assert not any(name.startswith("encoder.vision_model.") for name in trained)
    tuned = "new adapters of rank 2, visual_projection, text_projection"
    assert "encoder.visual_projection.weight" in same("adapted", {"name": "clip"}, {**base, "lora": {"r": 2}}, tuned)
