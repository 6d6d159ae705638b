"""Runs by photos/continue: from released weights of several families, measured without scripts, on one process and on two."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from test_every_method import CNN, TOWER, VIT
from tiny_runs import RECIPES, REST, run
from transformers import AutoConfig, AutoModel

from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.errors import RecipeError
from hfcontrast.recipe import load_recipe
from hfcontrast.run import run as run_recipe
from hfcontrast.training.build_method import build_method

SMALL = ["views.all.size=16", "method.projection_dim=16", "train.batch_size=16", "train.epochs=", "train.steps=6", "train.log_every=1"]  # fmt: skip
SMALL += [
    "optim.freeze_encoder_steps=2",
    "optim.warmup_steps=3",
    "early_stopping.every=2",
    "train.device=cpu",
    "data.workers=0",
]
SMALL += ["eval.linear_probe=false", "eval.baselines=encoder", "eval.max_train=64", "eval.max_test=32"]
DIGITS = ["data.path=builtin/digits", "data.split=train[:100]"]
IMAGE, TEXTS = {**TOWER, "image_size": 16, "patch_size": 4}, {**TOWER, "vocab_size": 40}
FAMILIES = {
    "dinov2": {**VIT, "image_size": 16},
    "dinov3_vit": {"model_type": "dinov3_vit", **IMAGE},
    "vit_mae": {"model_type": "vit_mae", **IMAGE, "decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2},
    "clip": {"model_type": "clip", "vision_config": IMAGE, "text_config": TEXTS},
    "siglip": {"model_type": "siglip", "vision_config": IMAGE, "text_config": TEXTS},
    "siglip_vision_model": {"model_type": "siglip_vision_model", **IMAGE},
    "timm": "timm/test_efficientnet",
    "resnet": CNN,
}  # fmt: skip


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Folders with models of random weights, as if they were released."""
    root = tmp_path_factory.mktemp("released")

    def save(name):
        if not (root / name).exists():
            torch.manual_seed(5)
            written = FAMILIES[name]
            two = isinstance(written, dict) and "text_config" in written
            config = AutoConfig.for_model(**written) if two else backbone_config(written, [16])
            AutoModel.from_config(config).save_pretrained(root / name)
        return str(root / name)

    return save


def continued(weights, output, *overrides, source=DIGITS):
    recipe = load_recipe("photos/continue", [f"backbone.pretrained={weights}", f"train.output={output}", *SMALL, *source, *overrides])  # fmt: skip
    return run_recipe(recipe)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_of_released_weights_starts_whole(name, released):
    """Every tensor of the image encoder is loaded, and layers are known, so that the rate can fall from one to the next."""
    recipe = load_recipe("photos/continue", [f"backbone.pretrained={released(name)}", *SMALL, *DIGITS])
    method, start = build_method(recipe, recipe.resolved_views(), {})
    (part,) = start.parts
    missing = {name for name in method.encoder.state_dict() if name not in start.loaded}
    assert part.tensors and all("mask_token" in name or "pooler" in name for name in missing)
    from hfcontrast.training.optim import grouped

    assert len({group["lr_scale"] for group in grouped(method, recipe.optim)}) > 1


def test_names_on_the_hub_that_cannot_be_reached_are_told_in_one_sentence(monkeypatch):
    from huggingface_hub import constants

    from hfcontrast import hub

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub._problem.cache_clear()
    for name in ("facebook/dinov2-small", "timm/resnet50.tv_in1k", "google/siglip-base-patch16-224"):
        recipe = load_recipe("photos/continue", [f"backbone.pretrained={name}", *SMALL, *DIGITS])
        with pytest.raises(RecipeError) as error:
            build_method(recipe, recipe.resolved_views(), {})
        assert name in str(error.value) and "\n" not in str(error.value)
        assert "is neither a folder with a model nor a model on the Hub that can be reached" in str(error.value)
    hub._problem.cache_clear()


def test_a_run_says_which_of_start_and_end_it_publishes_and_why(released, tmp_path, capsys):
    notes = continued(released("resnet"), tmp_path / "run", "optim.lr=1e-6")
    state = json.loads((tmp_path / "run" / "result.json").read_text())["early_stopping"]
    assert state["metric"] == "knn" and [one["step"] for one in state["measurements"]] == [4, 6]
    names = {"knn", "view_agreement", "shared_with_start", "rankme", "alignment", "uniformity"}
    assert state["start"].keys() == names and state["start"]["shared_with_start"] == 1.0
    assert notes["early_stopping"]["published"] == state["published"]
    sentence = "by kNN accuracy on a fifth of the training images: the end"
    card = (tmp_path / "run" / "README.md").read_text()
    assert sentence in card and sentence in capsys.readouterr().out and "Compared with the start" in card


@pytest.fixture(scope="module")
def unlabeled(tmp_path_factory):
    """A folder of 80 scans of digits."""
    folder = tmp_path_factory.mktemp("images")
    for number, pixels in enumerate(load_digits().images[:80]):
        Image.fromarray((pixels * 15).astype("uint8")).convert("RGB").save(folder / f"{number}.png")
    return ["data.path=imagefolder", f"data.data_dir={folder}"]


@pytest.mark.parametrize("name", ["resnet", "dinov2"])  # with batch statistics, and without
def test_a_rate_that_is_far_too_high_ends_with_the_start(name, released, unlabeled, tmp_path):
    """Without labels: two views of an image still find each other's neighbors, until the features collapse."""
    far_too_high = ["optim.lr=30", "optim.warmup_steps=0", "early_stopping.patience=1"]
    continued(released(name), tmp_path / "run", *far_too_high, source=unlabeled)
    state = json.loads((tmp_path / "run" / "result.json").read_text())["early_stopping"]
    assert state["metric"] == "label_free" and state["published"] == "start"
    first, published = (load_file(f"{place}/model.safetensors") for place in (released(name), tmp_path / "run"))
    assert published.keys() >= first.keys() - {key for key in first if "pooler" in key}
    for key, value in published.items():
        assert torch.equal(value, first[key]), key
    assert "Published is the start" in (tmp_path / "run" / "README.md").read_text()


def test_labels_that_are_not_there_are_asked_for_in_one_sentence(released, unlabeled, tmp_path):
    with pytest.raises(RecipeError, match="early_stopping.metric is knn, and .* has no labels: take label_free"):
        continued(released("resnet"), tmp_path, "early_stopping.metric=knn", source=unlabeled)


def test_two_processes_measure_and_decide_as_one(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        RECIPES["dino"] + REST + "early_stopping: {every: 2, patience: 1, max_reductions: 9, min_delta: 0}\n"
    )
    options = ["optim.freeze_encoder_steps=3", "train.steps=10", "optim.lr=0.05"]
    states = []
    for processes in (1, 2):
        output = tmp_path / f"of_{processes}"
        assert run(recipe, output, *options, processes=processes).code == 0
        states.append(json.loads((output / "result.json").read_text())["early_stopping"])
    one, two = states
    for key in ("metric", "every", "best_step", "reductions", "lr_factor", "stopped_at", "published"):
        assert one[key] == two[key], key
    for first, second in zip(one["measurements"], two["measurements"], strict=True):
        assert second == pytest.approx(first, abs=0.02)
