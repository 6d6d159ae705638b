"""Released weights of which a part is trained: the encoder frozen in the first steps, the last layers alone, batch statistics that stay."""

import pytest
import torch
from test_every_method import CNN, METHODS, VIT, Crash, state, tiny
from transformers import AutoModel

from hfcontrast.encoders.layers import layer_distances
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.errors import RecipeError
from hfcontrast.recipe import load_recipe
from hfcontrast.training.build import build_training
from hfcontrast.training.loop import train
from hfcontrast.training.notices import phases_missed_in

DEEP = {**VIT, "num_hidden_layers": 3}
SHOWN = ("byol", "dino", "clip", "mae")  # batch statistics and a teacher, heads with prototypes, projections, a decoder


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    root = tmp_path_factory.mktemp("released")
    for name, backbone in (("resnet", CNN), ("vit", DEEP)):
        torch.manual_seed(3)
        AutoModel.from_config(backbone_config(backbone, [16])).save_pretrained(root / name)
    return root


def warmed_up(name, folder, **changes):
    recipe = tiny(name, folder, **changes)
    recipe.optim.freeze_encoder_steps = 5
    return recipe


@pytest.mark.parametrize(
    "name", [name if name in SHOWN else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_the_encoder_is_frozen_first_and_a_crash_leaves_no_trace(name, tmp_path):
    """Seven steps, five of them frozen: a crash in the fifth, after the checkpoint of the third."""
    alone, crashed = (build_training(warmed_up(name, tmp_path / folder)) for folder in ("alone", "crashed"))
    teachers = [name for name, source in alone.method.teachers.items() if source == "encoder"]
    before, seen = copies(alone.method, teachers), []
    after_step = alone.method.after_step

    def look(outputs, progress):
        after_step(outputs, progress)
        now = copies(alone.method, teachers)
        seen.append(all(torch.equal(before[key], now[key]) for key in before))

    alone.method.after_step = look
    train(alone)
    assert seen[:5] == [True] * 5 and not seen[-1]

    def crash(outputs, progress):
        if progress.step == 4:
            raise Crash
        type(crashed.method).after_step(crashed.method, outputs, progress)

    crashed.method.after_step = crash
    with pytest.raises(Crash):
        train(crashed)
    train(again := build_training(warmed_up(name, tmp_path / "crashed")))
    expected, actual = state(alone), state(again)
    assert expected.keys() == actual.keys()
    assert [key for key, value in expected.items() if not torch.equal(value, actual[key])] == []


def copies(method, teachers):
    """The encoder and its teachers: weights and batch statistics."""
    modules = {name: getattr(method, name) for name in ("encoder", *teachers)}
    return {f"{name}.{key}": value.clone() for name, module in modules.items() for key, value in module.state_dict().items()}  # fmt: skip


def test_what_starts_at_random_in_a_released_encoder_is_warmed_up_too(released, tmp_path):
    """With adapters: they stay with the weights. Without: a part without released weights counts as a head."""
    adapted = build_training(warmed_up("simclr", tmp_path / "lora", backbone={"pretrained": str(released / "vit"), "lora": {"r": 2}}))  # fmt: skip
    frozen = {id(value) for value in adapted.frozen_encoder().parameters}
    assert {id(value) for value in adapted.method.encoder.parameters()} == frozen
    part = build_training(warmed_up("simclr", tmp_path / "part", backbone={"pretrained": str(released / "vit")}))
    names = part.start.loaded - {"layernorm.weight"}
    object.__setattr__(part.start, "loaded", frozenset(names))
    own = {id(value) for value in part.frozen_encoder().parameters}
    assert [name for name, value in part.method.encoder.named_parameters() if id(value) not in own] == ["layernorm.weight"]  # fmt: skip


def test_a_run_that_is_too_short_to_train_its_encoder_is_told_so(tmp_path):
    recipe = tiny("simclr", tmp_path)
    recipe.optim.freeze_encoder_steps = 7
    training = build_training(recipe)
    assert any("optim.freeze_encoder_steps is 7, the training has 7 steps: the encoder is never trained" in text for text in phases_missed_in(training))  # fmt: skip


def test_the_setting_is_no_other_recipe_while_it_is_off(tmp_path):
    recipe = tiny("simclr", tmp_path)
    before = recipe.fingerprint().hash
    assert "freeze_encoder_steps" not in recipe.fingerprint().settings["optim"]
    recipe.optim.freeze_encoder_steps = 1
    assert recipe.fingerprint().hash != before


@pytest.mark.parametrize("name, backbone", [("dino", "vit"), ("simclr", "resnet")])
def test_the_last_layers_alone_are_trained(name, backbone, released, tmp_path):
    recipe = tiny(name, tmp_path, backbone={"pretrained": str(released / backbone), "trainable_layers": 1})
    training = build_training(recipe)
    encoder = training.method.encoder
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    train(training)
    distances = layer_distances(encoder)
    changed = {key for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])}
    assert {distances[key] for key in changed if key in distances} <= {0, 1} and changed
    assert "the last 1 of" in training.weights and "layers are trained" in training.weights
    if backbone == "resnet":  # statistics of the layers below stay too
        assert not any("embedder" in key for key in changed) and any("running_mean" in key for key in changed)
    assert training.start.facts(encoder)["trainable_layers"] == 1


def test_batch_statistics_of_released_weights_stay_where_that_is_asked_for(released, tmp_path):
    for asked in (True, False):
        backbone = {"pretrained": str(released / "resnet"), "freeze_batch_norm": asked}
        training = build_training(tiny("byol", tmp_path / str(asked), backbone=backbone))
        before = {key: value.clone() for key, value in training.method.state_dict().items()}
        train(training)
        now = training.method.state_dict()
        moved = {key for key, value in now.items() if "running_" in key and not torch.equal(value, before[key])}
        assert any(key.startswith("projector") for key in moved)
        assert any(key.startswith(("encoder", "teacher_encoder")) for key in moved) is not asked
        weights = {key for key in now if key.startswith("encoder") and "normalization.weight" in key}
        assert any(not torch.equal(now[key], before[key]) for key in weights)
        assert ("uses the released running statistics" in training.weights) is asked


@pytest.mark.parametrize(
    "backbone, message",
    [
        ({**CNN, "trainable_layers": 1}, "backbone.trainable_layers: there are no weights to start from"),
        ({**CNN, "freeze_batch_norm": True}, "backbone.freeze_batch_norm: there are no weights to start from"),
        ({"pretrained": "vit", "trainable_layers": 0}, "expected a whole number of at least 1 or null, got 0"),
        ({"pretrained": "vit", "trainable_layers": 1, "lora": {"r": 2}}, "trainable_layers and lora both say"),
        ({"pretrained": "vit", "trainable_layers": 3}, "is 3, and the encoder has 3 layers: leave it out"),
    ],
)
def test_what_cannot_be_frozen_is_refused(backbone, message, released, tmp_path):
    if "pretrained" in backbone:
        backbone = {**backbone, "pretrained": str(released / "vit")}
    with pytest.raises(RecipeError, match=message):
        build_training(load_recipe(tiny("simclr", tmp_path).to_dict() | {"backbone": backbone}))
