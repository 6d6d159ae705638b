"""Layers of encoders, against timm's own groups and the functions of BEiT's, DINOv2's and SimMIM's authors written down by hand."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from transformers import CONFIG_MAPPING, TimmWrapperConfig

from hfcontrast.encoders import build_encoder
from hfcontrast.encoders.layers import layer_distances, named_kinds
from hfcontrast.errors import RecipeError
from hfcontrast.testing.small import TINY_TOWERS

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}


def encoder(model_type, **settings):
    return build_encoder(CONFIG_MAPPING[model_type](**settings))


def groups(model):
    """Names by distance."""
    found = {}
    for name, distance in layer_distances(model).items():
        found.setdefault(distance, set()).add(name)
    return found


VITS = [
    ("vit", "layers"),
    ("vit_mae", "layers"),
    ("ijepa", "layers"),
    ("dinov2_with_registers", "encoder.layer"),
    ("dinov3_vit", "model.layer"),
    ("beit", "layers"),
    ("data2vec-vision", "encoder.layer"),
    ("clip_vision_model", "encoder.layers"),
    ("siglip_vision_model", "encoder.layers"),
]


@pytest.mark.parametrize("model_type, layers", VITS)
def test_layers_of_a_vit(model_type, layers):
    """DINOv2's and BEiT's ids: embeddings, tokens and positions 0, layer i + 1, all else above; here counted from the top."""
    more = {"use_shared_relative_position_bias": True} if model_type == "beit" else {}
    model = encoder(model_type, patch_size=8, **SIZES, **more)
    found = groups(model)
    assert set(found) - {0} == {1, 2, 3, 4}
    for number in range(3):
        assert found[3 - number] == {n for n in layer_distances(model) if n.startswith(f"{layers}.{number}.")}
    assert all(name.startswith(("embeddings.", "pre_layrnorm")) for name in found[4])
    assert any("patch_embed" in name for name in found[4])
    rest = {n for n in layer_distances(model) if not n.startswith((f"{layers}.", "embeddings.", "pre_layrnorm"))}
    assert found.get(0, set()) == rest  # with the bias table that BEiT's layers share


def test_layers_of_a_swin_are_those_of_simmim():
    """Its get_swin_layer: what joins two stages belongs to the last block of the first one."""
    sizes = {"embed_dim": 8, "depths": [1, 2], "num_heads": [1, 1], "window_size": 4, "image_size": 32, "patch_size": 4}
    distances = layer_distances(encoder("swin", **sizes))
    for name, distance in distances.items():
        parts = name.split(".")
        if name.startswith("embeddings"):
            layer = 0
        elif name.startswith("encoder.layers") and parts[3] == "blocks":
            layer = sum(sizes["depths"][: int(parts[2])]) + int(parts[4]) + 1
        elif name.startswith("encoder.layers"):
            layer = sum(sizes["depths"][: int(parts[2]) + 1])
        else:
            layer = 4
        assert distance == 4 - layer, name


@pytest.mark.parametrize(
    "model_type, settings",
    [
        ("resnet", {**STAGES, "embedding_size": 8, "layer_type": "basic"}),
        ("convnext", STAGES),
        ("regnet", {**STAGES, "embedding_size": 8, "groups_width": 4}),
    ],
)
def test_layers_of_stages(model_type, settings):
    found = groups(encoder(model_type, **settings))
    assert set(found) - {0} == {1, 2, 3, 4}
    assert all(".stages.1.layers.1." in name for name in found[1])
    assert all(".stages.1.layers.0." in name or "downsampling" in name for name in found[2])
    assert all(".stages.0.layers.0." in name for name in found[3])
    assert all("embed" in name for name in found[4])


@pytest.mark.parametrize(
    "architecture", ["vit_tiny_patch16_224", "resnet18", "convnext_atto", "swin_tiny_patch4_window7_224"]
)
def test_layers_of_timm_are_those_of_its_own_layer_decay(architecture):
    """As its optimizer factory groups the same architecture with a classifier."""
    with torch.device("meta"):
        model, wrapper = timm.create_model(architecture, num_classes=3), nn.Module()
        wrapper.timm_model = timm.create_model(architecture, num_classes=0)
        wrapper.config = TimmWrapperConfig(architecture=architecture)
    names = {id(p): name for name, p in model.named_parameters()}
    scales = {
        names[id(p)]: group["lr_scale"]
        for group in param_groups_layer_decay(model, layer_decay=0.5)
        for p in group["params"]
    }
    found = layer_distances(wrapper)
    assert len(found) == len(list(wrapper.parameters()))
    assert {name: 0.5**distance for name, distance in found.items()} == {
        f"timm_model.{name}": scale for name, scale in scales.items() if f"timm_model.{name}" in found
    }


def test_each_tower_has_its_own_layers_and_what_both_share_is_above():
    found = groups(encoder("clip", **{k: v for k, v in TINY_TOWERS.items() if k != "model_type"}))
    assert set(found) == {0, 1, 2, 3}
    assert {"logit_scale", "visual_projection.weight", "text_projection.weight"} < found[0]
    for tower in ("vision_model", "text_model"):
        assert f"{tower}.encoder.layers.1.mlp.fc1.weight" in found[1]
        assert f"{tower}.encoder.layers.0.mlp.fc1.weight" in found[2]
        assert f"{tower}.embeddings.position_embedding.weight" in found[3]


def test_an_encoder_without_numbered_layers_is_refused():
    with pytest.raises(RecipeError, match="the layers of encoder 'Linear' are not known"):
        layer_distances(nn.Linear(2, 2))


def test_kinds_of_parameters_in_transformers_and_timm():
    def kinds(model):
        found = {}
        for name, kind in named_kinds(model).items():
            found.setdefault(kind, set()).add(name)
        return found

    assert kinds(encoder("dinov2_with_registers", patch_size=8, **SIZES)) == {
        "class_token": {"embeddings.cls_token"},
        "mask_token": {"embeddings.mask_token"},
        "register_tokens": {"embeddings.register_tokens"},
        "positions": {"embeddings.position_embeddings"},
    }
    tables = kinds(encoder("beit", patch_size=8, **SIZES, use_relative_position_bias=True))["relative_positions"]
    assert len(tables) == 3 and all(name.endswith("relative_position_bias_table") for name in tables)
    siglip = {"vision_config": {**SIZES, "patch_size": 8}, "text_config": {**TINY_TOWERS["text_config"]}}
    assert kinds(encoder("siglip", **siglip)) == {
        "probe": {"vision_model.head.probe"},
        "embeddings": {"text_model.embeddings.token_embedding.weight"},
        "positions": {f"{tower}_model.embeddings.position_embedding.weight" for tower in ("vision", "text")},
    }
    with torch.device("meta"):
        ours = kinds(timm.create_model("vit_small_patch16_dinov3", num_classes=0))
        swin = timm.create_model("swin_tiny_patch4_window7_224")
    assert ours["class_token"] == {"cls_token"} and ours["register_tokens"] == {"reg_token"}
    # timm's Swin names what it would not decay itself.
    assert set(named_kinds(swin)) == {n for n in dict(swin.named_parameters()) if "relative_position_bias_table" in n}
    wanted = swin.no_weight_decay() | {"relative_position_bias_table"}
    assert all(name.rpartition(".")[2] in wanted for name in named_kinds(swin))
