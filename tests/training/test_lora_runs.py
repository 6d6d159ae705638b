"""Trainings from released weights with LoRA, or with a locked tower: what is updated, saved and refused."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from test_every_method import VIT, Crash, state, tiny
from test_processes import assert_close_runs
from tiny_runs import run
from transformers import AutoModel

from hfcontrast import testing
from hfcontrast.data.sources import load_rows
from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.lora import lora_layers, merged_encoder
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.arguments import needs_captions
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.registry import get_method
from hfcontrast.publishing.export import export_encoder, save_method
from hfcontrast.publishing.processor import build_processor
from hfcontrast.recipe import load_recipe
from hfcontrast.training.build import build_training
from hfcontrast.training.build_method import build_method
from hfcontrast.training.loop import train

TEXT = {"vocab_size": 40, "max_length": 12, "bos_token_id": 38, "eos_token_id": 39, "pad_token_id": 39}
TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
TOWERS = {"clip": {**testing.TINY_TOWERS}, "siglip": {"model_type": "siglip", "text_config": TOWER, "vision_config": {**TOWER, "patch_size": 8}}}  # fmt: skip
BERT = {"model_type": "bert", **TOWER}
PAIR = {"model_type": "vision-text-dual-encoder", "projection_dim": 10}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Folders with models of random weights, as if they were released."""
    root, saved = tmp_path_factory.mktemp("released"), {}

    def save(name, backbone, text=None):
        if name not in saved:
            torch.manual_seed(7)
            config = backbone_config(backbone, [32 if text else 16], text)
            (AutoModel.from_config if backbone is BERT else build_encoder)(config).save_pretrained(root / name)
            saved[name] = str(root / name)
        return saved[name]

    return save


# LoRA, in every method


def crashing(recipe, at: int) -> None:
    """Trains until an exception in the middle of a step."""
    training = build_training(recipe)
    after_step = training.method.after_step

    def crash(outputs, progress):
        if progress.step == at:
            raise Crash
        after_step(outputs, progress)

    training.method.after_step = crash
    with pytest.raises(Crash):
        train(training)


# One of each kind: no teacher, teachers of encoder and heads, a momentum encoder with a queue, multi-crop, masks.
@pytest.mark.parametrize("name", ["simclr", "byol", "dino", "moco_v2", "swav", "dinov2", "simclr_v2"])
def test_a_method_of_each_kind_trains_resumes_and_is_published_with_lora(name, released, tmp_path):
    base = released("dinov2", VIT)
    backbone = {"pretrained": base, "lora": {"r": 2, "dropout": 0.1}}
    crashing(tiny(name, tmp_path / "run", backbone), at=4)
    alone, training = (build_training(tiny(name, tmp_path / folder, backbone)) for folder in ("alone", "run"))
    method = training.method
    before = {key: value.clone() for key, value in method.encoder.state_dict().items()}
    assert "LoRA of rank 2 on 4 layers" in training.weights and len(lora_layers(method.encoder)) == 4
    for teacher in (teacher for teacher, source in method.teachers.items() if source == "encoder"):
        assert getattr(method, teacher).state_dict().keys() == before.keys()
    train(alone)
    train(training)
    expected = state(alone)
    for key, value in state(training).items():
        assert torch.equal(value, expected[key]), f"{key} differs after the crash"
    found = moved(method, before)
    assert found and all(".lora_" in key for key in found)

    encoder = method.export_encoder()
    export_encoder(encoder, build_processor(encoder, 16, 1.0, training.mean, training.std), tmp_path / "run")
    save_method(method, tmp_path / "run" / "method")
    pixels = torch.randn(2, 3, 16, 16)
    exported, adapted = (AutoModel.from_pretrained(folder) for folder in (tmp_path / "run", base))
    adapted = PeftModel.from_pretrained(adapted, tmp_path / "run" / "adapter").get_base_model()
    reloaded = type(method).from_pretrained(tmp_path / "run" / "method").export_encoder()
    with torch.no_grad():
        features = encode(encoder.eval(), pixels)
        for model in (exported, reloaded, adapted, merged_encoder(encoder)):
            torch.testing.assert_close(encode(model.eval(), pixels), features, rtol=1e-4, atol=1e-5)
    assert exported.state_dict().keys() == AutoModel.from_pretrained(base).state_dict().keys()


def test_a_teacher_is_a_copy_of_the_encoder_with_adapters(released, tmp_path):
    backbone = {"pretrained": released("dinov2", VIT), "lora": {"r": 2, "dropout": 0.5}}
    method = build_training(tiny("dino", tmp_path, backbone)).method
    for name, value in method.teacher_encoder.state_dict().items():
        assert torch.equal(value, method.encoder.state_dict()[name])
    assert not any(p.requires_grad for p in method.teacher_encoder.parameters())
    assert not any(module.training for module in method.teacher_encoder.modules())  # and drops nothing out
    with torch.no_grad():
        for layer in lora_layers(method.encoder).values():
            layer.lora_B["default"].weight.add_(1)
    method.update_teachers(0.75)
    for layer in lora_layers(method.teacher_encoder).values():
        assert (layer.lora_B["default"].weight == 0.25).all()


def test_batch_statistics_of_released_weights_stay(released, tmp_path):
    cnn = {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "layer_type": "basic",
    }
    backbone = {"pretrained": released("resnet", cnn), "lora": {"target_modules": ["convolution"]}}
    training = build_training(tiny("byol", tmp_path, backbone))
    before = {key: value.clone() for key, value in training.method.state_dict().items() if "running_" in key}
    train(training)
    after = training.method.state_dict()
    for key, value in before.items():
        in_encoder = key.startswith(("encoder.", "target_encoder."))
        assert torch.equal(after[key], value) == in_encoder, key  # the heads are trained further


def test_a_run_says_and_leaves_it_all_also_on_two_processes(released, tmp_path):
    base = released("dinov2", VIT)
    recipe = tmp_path / "simclr.yaml"
    recipe.write_text(f"""
method: {{name: simclr, projection_dim: 16}}
backbone: {{pretrained: {base}, lora: {{r: 2, alpha: 8}}}}
views: {{view: {{size: 16}}}}
optim: {{name: sgd, lr: 0.02}}
data: {{path: builtin/digits, split: "train[:64]"}}
train: {{batch_size: 32, steps: 4, log_every: 1, device: cpu}}
eval: {{max_train: 64, max_test: 32}}
""")
    for name, processes in (("one", 1), ("two", 2)):
        ended = run(recipe, tmp_path / name, processes=processes)
        assert ended.code == 0, ended.output
        assert "encoder tensors loaded from" in ended.output
        assert "LoRA of rank 2 on 4 layers (q_proj, k_proj, v_proj, o_proj)" in ended.output
    assert_close_runs(tmp_path / "one", tmp_path / "two")
    weights = load_file(tmp_path / "one" / "model.safetensors")
    assert weights.keys() == load_file(f"{base}/model.safetensors").keys()
    assert not [name for name in load_file(tmp_path / "one" / "method" / "model.safetensors") if "lora" in name]
    settings = json.loads((tmp_path / "one" / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["base_model_name_or_path"]) == (2, 8, base)


# Two towers


def build(name, backbone, text=TEXT, size=32):
    recipe = load_recipe(
        {
            "method": {"name": name},
            "backbone": backbone,
            "data": {"path": "builtin/shapes"},
            "views": {"all": {"size": size}},
            "train": {"steps": 1},
        }
    )
    method = get_method(name)
    built, start = build_method(recipe, recipe.resolved_views(method), {}, text if needs_captions(method) else None)
    return built, start.text


def steps(method, count=3):
    """Trains on random pairs; returns the encoder's weights before."""
    before = {name: value.clone() for name, value in method.encoder.state_dict().items()}
    batch = testing.random_batch(type(method), 8)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=0.01)
    for step in range(count):
        method.train()
        start_step(method, Progress(step, count))
        output = method(**batch)
        output.loss.backward()
        missing = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
        assert not missing  # distributed training would wait for them
        optimizer.step()
        optimizer.zero_grad()
        method.after_step([output], Progress(step, count))
    return before


def moved(method, before) -> set[str]:
    """Names of the encoder's tensors that have changed."""
    return {name for name, value in method.encoder.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("name", ["clip", "siglip"])
@pytest.mark.parametrize("locked, free", [("vision", "text"), ("text", "vision")])
def test_a_locked_tower_stays(name, locked, free, released):
    backbone = {"pretrained": released(name, TOWERS[name], TEXT), "locked": [locked]}
    method, said = build(name, backbone)
    assert said.endswith(f"\nthe {locked} tower is locked")
    tower = getattr(method.encoder, f"{locked}_model")
    before = steps(method)
    found = moved(method, before)
    assert not [key for key in found if key.startswith(f"{locked}_model.")]
    assert all(key in found for key in before if "projection" in key or key == "logit_scale")
    assert [key for key in found if key.startswith(f"{free}_model.")]
    assert method.train().training and not any(module.training for module in tower.modules())
    assert all(module.training for module in getattr(method.encoder, f"{free}_model").modules())
    activations = []
    tower.encoder.layers[0].register_forward_hook(lambda *arguments: activations.append(arguments[-1]))
    method(**testing.random_batch(type(method), 8))
    assert len(activations) == 1 and not activations[0].requires_grad  # no graph is kept


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder with 32 images and their captions, made once."""
    folder = tmp_path_factory.mktemp("pairs")
    load_rows("builtin/shapes", split="train[:32]", captioned=True).dataset.save_to_disk(folder)
    return str(folder)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_towers_resume_exactly_after_a_crash(name, pairs, tmp_path):
    """A locked image tower, adapters with dropout in the text tower, and a tokenizer that is trained on the captions."""

    def recipe(folder, backbone):
        return load_recipe(
            {
                "method": {"name": name},
                "backbone": backbone,
                "data": {"path": pairs, "workers": 0},
                "text": {"vocab_size": 600, "max_length": 12},
                "views": {"all": {"size": 32}},
                "train": {"steps": 7, "batch_size": 8, "checkpoint_every": 3, "device": "cpu", "output": str(tmp_path / folder)},
                "eval": {"baselines": False},
            }
        )  # fmt: skip

    first = build_training(
        recipe("first", TOWERS[name] if name == "siglip" else {**TOWERS[name], "text_config": TOWER})
    )
    encoder = first.method.encoder
    encoder.save_pretrained(tmp_path / "weights")
    first.captions.tokenizer.save_pretrained(tmp_path / "weights")
    backbone = {"pretrained": str(tmp_path / "weights"), "locked": ["vision"], "lora": {"r": 2, "dropout": 0.2}}
    crashing(recipe("run", backbone), at=4)
    alone, training = build_training(recipe("alone", backbone)), build_training(recipe("run", backbone))
    before = {key: value.clone() for key, value in training.method.encoder.state_dict().items()}
    train(alone)
    train(training)
    expected = state(alone)
    assert all(torch.equal(value, expected[key]) for key, value in state(training).items())
    found = {key for key in moved(training.method, before) if ".lora_" not in key}
    assert (
        found <= {"visual_projection.weight", "text_projection.weight", "logit_scale", "logit_bias"}
        and "logit_scale" in found
    )


def test_weights_of_clip_start_siglips_loss_at_its_own_scale(released):
    base = released("clip", TOWERS["clip"], TEXT)
    method, _ = build("siglip", {"pretrained": base})
    assert method.encoder.logit_scale.exp().item() == pytest.approx(10, rel=1e-4) and method.own_bias.value == -10
    assert build("clip", {"pretrained": base})[0].encoder.logit_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-4)


def test_a_locked_towers_statistics_and_dropout(released):
    """A ResNet of timm, locked (LiT), and a BERT with dropout from random weights."""
    backbone = {
        **PAIR,
        "vision": {"pretrained": released("timm", "timm/resnet18")},
        "text": {**BERT, "hidden_dropout_prob": 0.5},
    }
    method, said = build("clip", {**backbone, "locked": ["vision"]})
    assert "vision tower tensors loaded from" in said
    found = moved(method, steps(method))
    assert not [key for key in found if key.startswith("vision_model.")]
    assert {"visual_projection.weight", "text_projection.weight", "logit_scale"} <= found
    assert method.encoder.text_model.embeddings.dropout.training
    unlocked, _ = build("clip", backbone)
    assert [key for key in moved(unlocked, steps(unlocked)) if key.endswith("running_mean")]


def test_what_a_locked_tower_lacks_is_trained(released):
    bert = released("bert", BERT, TEXT)
    weights = load_file(f"{bert}/model.safetensors")
    model = AutoModel.from_pretrained(bert)
    model.save_pretrained(
        f"{bert}_bare", state_dict={key: value for key, value in weights.items() if "pooler" not in key}
    )
    vision = {"model_type": "vit", **TOWER, "patch_size": 8}
    backbone = {
        **PAIR,
        "vision": vision,
        "text": {"pretrained": f"{bert}_bare"},
        "locked": ["text"],
        "min_matched": 0.8,
    }
    method, said = build("clip", backbone)
    assert said.endswith(
        "the text tower is locked, but text_model.pooler.dense.weight, text_model.pooler.dense.bias, which start at random"
    )
    found = {key for key in moved(method, steps(method)) if key.startswith("text_model.")}
    assert found == {"text_model.pooler.dense.weight", "text_model.pooler.dense.bias"}


@pytest.mark.parametrize(
    "more, frozen, whole",
    [
        ({"lora": {"r": 2}}, "vision_model. text_model.", []),
        ({"lora": {"r": 2, "towers": ["vision"]}}, "vision_model.", ["text_model."]),
        ({"lora": {"r": 2}, "locked": ["vision"]}, "vision_model. text_model.", []),
    ],
)
def test_lora_on_chosen_towers(more, frozen, whole, released):
    method, said = build("clip", {"pretrained": released("clip", TOWERS["clip"], TEXT), **more})
    layers = lora_layers(method.encoder)
    adapted = ("text_model.",) if "locked" in more else tuple(frozen.split())
    assert layers and all(name.startswith(adapted) for name in layers)
    assert {name.split(".")[0] + "." for name in layers} == set(adapted)
    assert f"on {len(layers)} layers (k_proj, v_proj, q_proj, out_proj)" in said
    found = moved(method, steps(method))
    assert not [key for key in found if key.startswith(tuple(frozen.split())) and ".lora_" not in key]
    assert {"visual_projection.weight", "text_projection.weight", "logit_scale"} <= found
    for tower in whole:
        assert sum(key.startswith(tower) for key in found) > 20


def test_lora_and_a_locked_tower_are_published_as_a_native_model(released, tmp_path):
    base = released("clip", TOWERS["clip"], TEXT)
    method, _ = build("clip", {"pretrained": base, "lora": {"r": 2}, "locked": ["vision"]})
    steps(method)
    encoder = method.export_encoder()
    export_encoder(encoder, build_processor(encoder, 32, 1.0, (0.5,) * 3, (0.5,) * 3), tmp_path)
    save_method(method, tmp_path / "method")
    native = AutoModel.from_pretrained(tmp_path).eval()
    adapted = PeftModel.from_pretrained(AutoModel.from_pretrained(base), tmp_path / "adapter").get_base_model().eval()
    whole = type(method).from_pretrained(tmp_path / "method").encoder.eval()
    batch = testing.random_batch(type(method), 4)
    given = {name: batch[name] for name in ("input_ids", "attention_mask")} | {
        "pixel_values": batch["pixel_values"][:, 0]
    }
    with torch.no_grad():
        expected = encoder.eval()(**given)
        for model in (native, whole, adapted):
            found = model(**given)
            torch.testing.assert_close(found.image_embeds, expected.image_embeds, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.text_embeds, expected.text_embeds, rtol=1e-4, atol=1e-5)
            if model is not adapted:  # the temperature is not part of the features
                torch.testing.assert_close(found.logits_per_image, expected.logits_per_image, rtol=1e-4, atol=1e-4)


# What is refused


@pytest.mark.parametrize(
    "backbone, words",
    [
        ({"model_type": "vit", "lora": {"r": 4}}, "backbone.lora: there are no weights to start from"),
        ({"model_type": "clip", "locked": ["vision"]}, "backbone.locked: there are no weights to start from"),
        ({"model_type": "vit", "min_matched": 0.5}, "backbone.min_matched: there are no weights to start from"),
        ({"pretrained": "x/y", "lora": {"rank": 4}}, "backbone.lora.rank: unknown key"),
        ({"pretrained": "x/y", "lora": {"r": 0}}, "backbone.lora.r: expected a whole number of at least 1 or null, got 0"),
        ({"pretrained": "x/y", "lora": {"dropout": 1.0}}, "backbone.lora.dropout: expected a number"),
        ({"pretrained": "x/y", "lora": {"towers": ["visual"]}}, "backbone.lora.towers: expected"),
        ({"pretrained": "x/y", "lora": {"target_modules": "q_proj"}}, "backbone.lora.target_modules: expected a list of texts"),
        ({"pretrained": "x/y", "lora": True}, "backbone.lora: expected a mapping"),
        ({"pretrained": "x/y", "locked": "vision"}, "backbone.locked: expected a list"),
        ({"pretrained": "x/y", "locked": ["vison"]}, "did you mean 'vision'?"),
        ({"pretrained": "x/y", "min_matched": 0}, "backbone.min_matched: expected a number"),
        ({"pretrained": "x/y", "lcked": ["vision"]}, "backbone.lcked: unknown key; did you mean 'locked'?"),
        ({"pretrained": "x/y", "locked": ["vision", "text"]}, "with both towers locked, nothing but projections"),
        ({"pretrained": "x/y", "locked": ["text"], "lora": {"towers": ["text"]}}, "backbone.locked and backbone.lora.towers both name text"),
        ({**PAIR, "vision": {"pretrained": "x/y"}, "text": BERT, "locked": ["text"]}, "backbone.locked: the text tower has random weights"),
        ({**PAIR, "vision": {"pretrained": "x/y"}, "text": BERT, "lora": {"towers": ["text"]}}, "backbone.lora.towers: the text tower has random weights"),
        ({**PAIR, "vision": {"pretrained": "x/y"}}, "backbone.text: missing"),
        ({**PAIR, "vision": {"pretrained": "x/y"}, "text": "timm/resnet18"}, "backbone.text: expected {model_type: ...}, got 'timm/resnet18'"),
        ({**PAIR, "vision": "timm/resnet18x", "text": BERT}, "backbone.vision: timm has no architecture 'resnet18x'; did you mean 'resnet18'?"),
        ({**PAIR, "vision": "timm/resnet18", "text": {**BERT, "hiden_size": 8}}, "backbone.text.hiden_size: unknown key; did you mean 'hidden_size'?"),
        ({**PAIR, "vision": "timm/resnet18", "text": {**BERT, "locked": True}}, "backbone.text.locked: unknown key"),
        ({**PAIR, "vision": "timm/resnet18", "text": BERT, "vision_config": {}}, "backbone.vision_config: unknown key"),
        ({**PAIR, "vision": PAIR, "text": BERT}, "backbone.vision.model_type: a tower cannot be a pair of towers itself"),
        ({"model_type": "clip", "text_config": {"hiden_size": 8}}, "backbone.text_config.hiden_size: unknown key; did you mean 'hidden_size'?"),
        ({"model_type": "clip", "vision_config": {"hidden_size": "a"}}, "backbone.vision_config.hidden_size: expected a whole number, got 'a' (text)"),
        ({"model_type": "clip", "vision_config": {"hidden_size": 15}}, "backbone.vision_config: The hidden size (15) is not a multiple"),
    ],
)  # fmt: skip
def test_recipes_that_cannot_be_meant(backbone, words):
    recipe = {
        "method": {"name": "simclr"},
        "backbone": backbone,
        "data": {"path": "builtin/shapes"},
        "train": {"steps": 1},
    }
    with pytest.raises(RecipeError) as error:
        load_recipe(recipe)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_recipes_that_are_fine():
    for backbone in (
        {"pretrained": "x/y", "revision": None, "min_matched": 0.9, "locked": ["vision"], "lora": {"r": 8, "towers": ["text"], "alpha": None}},
        {**PAIR, "vision": {"pretrained": "x/y", "revision": "main"}, "text": {"pretrained": "x/z"}, "lora": {}, "locked": None},
        {"model_type": "clip", "projection_dim": 8, "text_config": TOWER, "vision_config": {"model_type": "clip_vision_model", **TOWER}},
    ):  # fmt: skip
        recipe = {"method": {"name": "simclr"}, "backbone": backbone, "data": {"path": "x"}, "train": {"steps": 1}}
        assert load_recipe(load_recipe(recipe).to_dict()).backbone == backbone


def test_what_only_the_weights_can_tell_is_refused_before_the_training(released):
    vit, clip = released("dinov2", VIT), released("clip", TOWERS["clip"], TEXT)
    with pytest.raises(RecipeError, match="backbone.locked is for models with an image and a text tower"):
        build("simclr", {"pretrained": vit, "locked": ["vision"]}, size=16)
    with pytest.raises(RecipeError, match="backbone.lora.towers is .'vision'., but the encoder is of images alone"):
        build("simclr", {"pretrained": vit, "lora": {"towers": ["vision"]}}, size=16)
    with pytest.raises(RecipeError, match=r"\(dinov2\) has no image and text tower"):
        build("clip", {"pretrained": vit})
    with pytest.raises(
        RecipeError, match="method 'simclr' learns from images alone, and backbone 'clip' has a text tower"
    ):
        build("simclr", TOWERS["clip"])
    method, said = build("simclr", {"pretrained": clip, "lora": {"r": 2}})  # of which it takes the image tower
    assert len(lora_layers(method.encoder)) == 8 and "LoRA" in said
    with pytest.raises(RecipeError, match="lacks .* of the encoder's"):  # each of its towers sees colors of its own
        build_training(tiny("cmc", vit + "_run", {"pretrained": vit, "lora": {"r": 2}}))
