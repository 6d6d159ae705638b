"""LoRA: which layers get adapters, what is trained, and the weights when they are merged or saved alone."""

import copy
import json

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel

from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.lora import (
    add_lora,
    describe,
    lora_layers,
    merged_encoder,
    merged_state_dict,
    save_adapter,
    trained_modules,
)
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.encoders.two_towers import freeze_tower, text_features
from hfcontrast.encoders.weights import load_weights
from hfcontrast.errors import RecipeError

TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
PATCHES = {**TOWER, "patch_size": 8}
TEXT = {"vocab_size": 50, "max_length": 12, "bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 49}
TIMM = {"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224", "model_args": {"depth": 2}}
BERT = {"model_type": "bert", "max_position_embeddings": 12, **TOWER}
BACKBONES = {
    "clip": {"model_type": "clip", "projection_dim": 10, "text_config": TOWER, "vision_config": PATCHES},
    "siglip": {"model_type": "siglip", "text_config": TOWER, "vision_config": PATCHES},
    "pair": {"model_type": "vision-text-dual-encoder", "projection_dim": 10, "vision": TIMM, "text": BERT},
    "vit": {"model_type": "vit", **PATCHES},
    "dinov2": {"model_type": "dinov2", **PATCHES},
    "swin": {"model_type": "swin", "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "timm": TIMM,
    "convnext": {"model_type": "convnext", "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]},
    "resnet": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 12],
        "depths": [1, 1],
        "layer_type": "basic",
    },
}
TARGETS = {
    "clip": (["q_proj", "k_proj", "v_proj", "out_proj"], 16),
    "siglip": (["q_proj", "k_proj", "v_proj", "out_proj"], 16),  # and not out_proj of the image tower's pooling
    "pair": (["qkv", "proj", "query", "key", "value", "dense"], 12),
    "vit": (["q_proj", "k_proj", "v_proj", "o_proj"], 8),
    "swin": (["q_proj", "k_proj", "v_proj", "o_proj"], 8),
    "timm": (["qkv", "proj"], 4),
}
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[48, 5, 6, 49], [48, 8, 49, 49]])


def build(name: str):
    backbone = BACKBONES[name]
    return build_encoder(backbone_config(backbone, [32], TEXT if {"text", "text_config"} & backbone.keys() else None))


def with_lora(name: str, **options):
    """An encoder with adapters; all its weights count as released ones."""
    encoder = build(name)
    add_lora(encoder, loaded=encoder.state_dict(), **{"r": 3, **options})
    return encoder


def train(encoder: nn.Module) -> nn.Module:
    """Moves everything that is trained, as training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return encoder


def features(encoder) -> list[torch.Tensor]:
    """Of images, and of texts where there is a tower for them."""
    with torch.no_grad():
        found = [encode(encoder.eval(), PIXELS)]
        return [*found, text_features(encoder, IDS)] if hasattr(encoder, "get_text_features") else found


def trained(encoder) -> set[str]:
    """What is trained beside the adapters."""
    return {name for name, p in encoder.named_parameters() if p.requires_grad and ".lora_" not in name}


@pytest.mark.parametrize("name", TARGETS)
def test_the_attentions_projections_get_adapters(name):
    encoder = build(name).eval()
    before = features(encoder)
    layers = add_lora(encoder, loaded=encoder.state_dict())
    ends, count = TARGETS[name]
    assert {layer.rpartition(".")[2] for layer in layers} == set(ends) and len(layers) == count
    assert list(lora_layers(encoder)) == layers
    assert not [layer for layer in layers if "head" in layer]
    for plain, adapted in zip(before, features(encoder)):  # they start as no change
        torch.testing.assert_close(adapted, plain)
    (layer,) = {(layer.r["default"], layer.scaling["default"]) for layer in lora_layers(encoder).values()}
    assert layer == (16, 2.0)


@pytest.mark.parametrize("name", ["clip", "siglip", "pair", "vit", "timm"])
def test_gradients_reach_every_trained_parameter(name):
    encoder = train(with_lora(name))
    loss = encode(encoder.train(), PIXELS).square().mean()
    if hasattr(encoder, "get_text_features"):
        loss = (
            loss + text_features(encoder, IDS).square().mean() + encoder.logit_scale + getattr(encoder, "logit_bias", 0)
        )
    loss.sum().backward()
    assert not [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    assert not [name for name, p in encoder.named_parameters() if not p.requires_grad and p.grad is not None]


def test_what_is_trained_beside_the_adapters():
    assert trained(with_lora("vit")) == set()
    assert trained(with_lora("clip")) == {"visual_projection.weight", "text_projection.weight", "logit_scale"}
    assert trained(with_lora("siglip")) == {"logit_scale", "logit_bias"}
    encoder = build("clip")
    new = "text_model.embeddings.token_embedding.weight"  # as with another vocabulary
    add_lora(encoder, loaded=encoder.state_dict().keys() - {new})
    assert trained(encoder) == {"visual_projection.weight", "text_projection.weight", "logit_scale", new}


def test_a_mask_token_stays_frozen():
    encoder = build("dinov2")
    add_lora(encoder, loaded=[])
    assert "embeddings.mask_token" not in trained(encoder) and "embeddings.cls_token" in trained(encoder)


def test_one_tower_with_adapters_and_the_other_locked_or_trained():
    encoder = with_lora("clip", towers=["vision"])
    assert all(name.startswith("vision_model.") for name in lora_layers(encoder))
    outside = {name for name, _ in build("clip").named_parameters() if not name.startswith("vision_model.")}
    assert trained(encoder) == outside
    assert trained_modules(encoder) == ["text_model", "visual_projection", "text_projection"]
    encoder = build("clip")
    freeze_tower(encoder, "text", encoder.state_dict())
    add_lora(encoder, towers=["vision"], loaded=encoder.state_dict())
    assert trained(encoder) == {"visual_projection.weight", "text_projection.weight", "logit_scale"}


def test_named_layers_get_adapters():
    encoder = with_lora("clip", target_modules=["fc1", "vision_model.encoder.layers.0.self_attn.q_proj"])
    layers = list(lora_layers(encoder))
    assert len(layers) == 5 and sum(layer.endswith("fc1") for layer in layers) == 4
    assert len(lora_layers(with_lora("convnext", target_modules=["pwconv1"]))) == 4
    assert len(lora_layers(with_lora("resnet", target_modules=["convolution"]))) == 6
    siglip = lora_layers(with_lora("siglip", target_modules=["out_proj"]))
    assert len(siglip) == 4 and "vision_model.head.attention.out_proj" not in siglip


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("convnext", {}, "no attention that is known in 'convnext'; name layers in target_modules, of patch_embeddings, dwconv, pwconv1, pwconv2"),
        ("resnet", {}, "no attention that is known in 'resnet'; name layers in target_modules, of convolution"),
        ("vit", {"target_modules": ["query"]}, "'vit' has no linear layer 'query'; there are projection, q_proj, k_proj"),
        ("vit", {"target_modules": ["q_prj"]}, "'vit' has no linear layer 'q_prj'; did you mean 'q_proj'?"),
        ("clip", {"target_modules": ["visual_projection"]}, "no linear layer 'visual_projection'"),
        ("convnext", {"target_modules": ["dwconv"]}, "is a convolution in groups"),
    ],
)  # fmt: skip
def test_layers_that_are_not_there_are_explained(name, options, words):
    with pytest.raises(RecipeError) as error:
        with_lora(name, **options)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "name, options",
    [
        *((name, {}) for name in TARGETS),
        ("resnet", {"target_modules": ["convolution"]}),
        ("clip", {"towers": ["text"]}),
    ],
)
def test_merged_it_is_the_native_model_that_it_was(name, options):
    encoder = train(with_lora(name, alpha=5, **options))
    encoder.train()
    before = copy.deepcopy(encoder.state_dict())
    native, plain = merged_encoder(encoder), build(name)
    assert type(native) is type(plain) and not lora_layers(native)
    assert native.state_dict().keys() == plain.state_dict().keys()
    assert not any("lora" in type(module).__module__ for module in native.modules())
    assert encoder.training and all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    for merged, adapted in zip(features(native), features(encoder)):
        torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)
    for merged, untrained in zip(features(native), features(plain)):
        assert not torch.allclose(merged, untrained, atol=1e-2)


def test_merging_is_pefts():
    """Layer by layer: W + alpha / r * B A."""
    for name, options in (("vit", {}), ("resnet", {"target_modules": ["convolution"]})):
        encoder = train(with_lora(name, alpha=5, **options))
        merged = merged_state_dict(encoder)
        for path, layer in lora_layers(encoder).items():
            expected = layer.base_layer.weight + layer.get_delta_weight("default")
            torch.testing.assert_close(merged[f"{path}.weight"], expected)


def test_weights_can_come_from_elsewhere():
    """From training that shares them out over processes: the module's own are then not whole."""
    encoder = train(with_lora("vit"))
    whole = {f"method.{name}": value for name, value in encoder.state_dict().items()}
    holder = nn.ModuleDict({"method": with_lora("vit")})
    merged = merged_state_dict(holder, whole)
    expected = merged_state_dict(encoder)
    assert merged.keys() == {f"method.{name}" for name in expected}
    assert all(torch.equal(merged[f"method.{name}"], value) for name, value in expected.items())
    plain = build("vit")
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in merged_state_dict(plain).items())


@pytest.mark.parametrize(
    "name, options",
    [("clip", {}), ("clip", {"towers": ["vision"]}), ("siglip", {}), ("vit", {}), ("timm", {}), ("pair", {}), ("resnet", {"target_modules": ["convolution"]})],
)  # fmt: skip
def test_the_adapters_alone_give_the_same_features(name, options, tmp_path):
    base = str(tmp_path / "base")
    build(name).save_pretrained(base)
    text = TEXT if hasattr(build(name), "get_text_features") else None
    encoder = build_encoder(backbone_config({"pretrained": base}, [32], text))
    loaded = load_weights(encoder, {"pretrained": base})
    add_lora(encoder, r=3, loaded=loaded.names, base=base, revision="main", **options)
    train(encoder)
    teacher = copy.deepcopy(encoder).requires_grad_(False)  # as methods publish one
    for number, model in enumerate((encoder, teacher)):
        save_adapter(model, tmp_path / str(number))
        loaded = PeftModel.from_pretrained(AutoModel.from_pretrained(base), tmp_path / str(number)).eval()
        adapted = loaded.get_base_model()
        if name == "vit":
            adapted.pooler = None
        for found, expected in zip(features(adapted), features(encoder)):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    settings = json.loads((tmp_path / "0" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == base and settings["peft_type"] == "LORA"
    size = (tmp_path / "0" / "adapter_model.safetensors").stat().st_size
    whole = (tmp_path / "base" / "model.safetensors").stat().st_size
    assert size < whole or options.get("towers")  # a tower that is trained whole is saved whole


def test_the_adapters_file_holds_what_peft_would_write(tmp_path):
    encoder = train(with_lora("vit"))
    save_adapter(encoder, tmp_path)
    found = load_file(tmp_path / "adapter_model.safetensors")
    expected = get_peft_model_state_dict(encoder)
    assert found.keys() == {f"base_model.model.{name}" for name in expected}
    assert all(torch.equal(found[f"base_model.model.{name}"], value) for name, value in expected.items())


def test_dropout_belongs_to_training():
    encoder = train(with_lora("vit", dropout=0.5))
    assert not torch.equal(encode(encoder.train(), PIXELS), encode(encoder, PIXELS))
    assert torch.equal(encode(encoder.eval(), PIXELS), encode(encoder, PIXELS))


def test_the_sentence_about_it():
    encoder = with_lora("clip")
    adapters = 16 * (3 * 16 + 16 * 3)
    beside = 2 * 10 * 16 + 1
    native = sum(parameter.numel() for parameter in build("clip").parameters())
    assert describe(encoder, 3, list(lora_layers(encoder))) == (
        f"LoRA of rank 3 on 16 layers (k_proj, v_proj, q_proj, out_proj): {adapters + beside:,} parameters of the encoder are "
        f"trained (the adapters, visual_projection, text_projection, logit_scale); the native model has {native:,}"
    )


def test_layers_that_an_architecture_calls_base_layer_keep_their_names():
    encoder = build_encoder(backbone_config("timm/dla46x_c", [64]))
    names = encoder.state_dict().keys()
    assert any(".base_layer." in name for name in names)
    assert merged_state_dict(encoder).keys() == names
    add_lora(encoder, target_modules=["base_layer.0"])
    assert merged_state_dict(encoder).keys() == names
