"""The backbone of a recipe, parsed once: every way to write one, and what is known of it without its weights."""

import copy
import sys

import pytest

from hfcontrast.encoders.config import Backbone, LoRA, Weights
from hfcontrast.encoders.timm_names import architectures, is_architecture
from hfcontrast.recipe import load_recipe

PAIR = {"model_type": "vision-text-dual-encoder"}
FORMS = [
    "timm/resnet18",
    {"model_type": "vit", "hidden_size": 96, "image_size": [32, 32]},
    {"model_type": "timm_wrapper", "architecture": "resnet18", "model_args": {"in_chans": 3}},
    {"pretrained": "x/y"},
    {"pretrained": "x/y", "revision": None, "min_matched": 0.5, "lora": {"r": 4, "alpha": None}, "locked": ["text"]},
    {"pretrained": "x/y", "revision": "v1", "lora": {}},
    {**PAIR, "projection_dim": 8, "vision": "timm/resnet18", "text": {"model_type": "bert"}},
    {**PAIR, "vision": {"pretrained": "x/y"}, "text": {"pretrained": "x/z", "revision": "v2"}, "locked": ["vision"]},
]


@pytest.mark.parametrize("written", FORMS, ids=str)
def test_a_recipe_keeps_what_was_written(written):
    recipe = {"method": {"name": "simclr"}, "backbone": copy.deepcopy(written), "data": {"path": "x"}}
    recipe = load_recipe({**recipe, "train": {"steps": 1}}, check=False)
    assert isinstance(recipe.backbone, Backbone) and recipe.backbone == written
    assert recipe.to_dict()["backbone"] == written
    again = load_recipe(recipe.to_dict(), check=False)
    assert again.backbone == recipe.backbone and again.fingerprint().hash == recipe.fingerprint().hash
    recipe.backbone = "timm/resnet34"
    assert recipe.backbone.fields == {"architecture": "resnet34"}


def test_what_is_known_of_each_form():
    timm, vit, wrapper, plain, adapted, rank, pair, released = map(Backbone.read, FORMS)
    assert timm.model_type == wrapper.model_type == "timm_wrapper" and timm.fields == {"architecture": "resnet18"}
    assert vit.fields == {"hidden_size": 96, "image_size": [32, 32]} and vit.weights == {}
    assert plain.weights == {"": Weights("x/y")} and plain.model_type is None and plain.lora is None
    assert adapted.lora == LoRA(r=4) and adapted.lora.settings() == {"r": 4} and adapted.locked == ["text"]
    assert rank.lora == LoRA() and rank.weights_of("text") == rank.weights_of("vision") == Weights("x/y", "v1")
    assert pair.fields == {"projection_dim": 8} and pair.vision.model_type == "timm_wrapper" and pair.weights == {}
    assert released.weights_of("text") == Weights("x/z", "v2", "text.pretrained")
    assert list(released.weights) == ["vision", "text"] and released.text.model_type is None
    assert Backbone.read(vit) is vit


def test_what_is_written_wrong_is_kept_for_the_check_to_say():
    assert Backbone.read({"pretrained": "x/y", "lora": True}).lora is None
    tower = Backbone.read({**PAIR, "vision": "timm/resnet18", "text": {"model_type": "bert", "locked": True}}).text
    assert tower.fields == {"locked": True} and Backbone.read({**PAIR, "text": 3}).text is None
    assert Backbone.read("resnet18").model_type is None


def test_it_can_still_be_read_as_a_mapping():
    backbone = Backbone.read(FORMS[1])
    with pytest.warns(FutureWarning, match="`written` is the mapping"):
        assert backbone["hidden_size"] == backbone.get("hidden_size") == 96 and {**backbone} == FORMS[1]
        assert "hidden_size" in backbone and "revision" not in backbone
        assert dict(backbone.items()) == FORMS[1] and len(backbone) == len(FORMS[1]) == len(list(backbone.values()))


def test_names_of_timm_are_those_of_its_registry(monkeypatch):
    timm = pytest.importorskip("timm")
    known = timm.list_models()
    monkeypatch.delitem(sys.modules, "timm")
    assert architectures() == sorted(known)
    assert is_architecture("resnet18") and is_architecture("vit_small_patch16_224.augreg_in21k")
    monkeypatch.undo()
    assert architectures() == known and not is_architecture("resnet19")
