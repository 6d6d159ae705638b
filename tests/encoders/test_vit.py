"""What MoCo v3 fixes in a ViT: 2-D sine-cosine positions and a random patch projection, in transformers' and timm's models."""

import math

import pytest
import torch
from transformers import CONFIG_MAPPING

from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.vit import fix_positions, freeze_patch_projection, patch_projection, sincos_positions

SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SIZES |= {"image_size": 32, "patch_size": 8}
TIMM = {"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224", "num_labels": 0}
TIMM["model_args"] = {"img_size": (32, 64), "depth": 1}
VITS = {  # configuration, name of the positions, tokens in front of the patches
    "vit": ({"model_type": "vit", **SIZES}, "embeddings.position_embeddings", 1),
    "deit": ({"model_type": "deit", **SIZES}, "embeddings.position_embeddings", 2),
    "dinov2": ({"model_type": "dinov2", **SIZES}, "embeddings.position_embeddings", 1),
    "clip": ({"model_type": "clip_vision_model", **SIZES}, "embeddings.position_embedding.weight", 1),
    "siglip": ({"model_type": "siglip_vision_model", **SIZES}, "embeddings.position_embedding.weight", 0),
    "timm": (TIMM, "timm_model.pos_embed", 1),
}
OTHERS = {
    "resnet": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "convnext": {"model_type": "convnext", "hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]},
    "timm": {"model_type": "timm_wrapper", "architecture": "resnet18", "model_args": {}, "num_labels": 0},
}


def built(settings):
    fields = dict(settings)
    return build_encoder(CONFIG_MAPPING[fields.pop("model_type")](**fields))


def frozen(encoder):
    return {name for name, p in encoder.named_parameters() if not p.requires_grad and not name.endswith("mask_token")}


def test_positions_are_sines_and_cosines_of_row_and_column():
    found = sincos_positions(3, 5, 16)
    assert found.shape == (15, 16)
    for row in range(3):
        for column in range(5):
            expected = []
            for place in (row, column):
                for function in (math.sin, math.cos):
                    expected += [function(place / 10000 ** (i / 4)) for i in range(4)]
            torch.testing.assert_close(found[row * 5 + column], torch.tensor(expected))


def test_positions_need_a_width_that_four_divides():
    with pytest.raises(ValueError, match="multiple of 4, got 18"):
        sincos_positions(2, 2, 18)


@pytest.mark.parametrize("name", VITS)
def test_positions_of_a_vit_are_fixed(name):
    settings, parameter, extra = VITS[name]
    encoder = built(settings)
    assert fix_positions(encoder) is True
    grid = (2, 4) if name == "timm" else (4, 4)
    width = patch_projection(encoder).out_channels
    positions = encoder.get_parameter(parameter).view(-1, width)
    assert torch.equal(positions[:extra], torch.zeros(extra, width))
    assert torch.equal(positions[extra:], sincos_positions(*grid, width))
    assert frozen(encoder) == {parameter}


@pytest.mark.parametrize("name", VITS)
def test_the_patch_projection_of_a_vit_is_random_and_frozen(name):
    encoder = built(VITS[name][0])
    projection = patch_projection(encoder)
    before = projection.weight.clone()
    assert freeze_patch_projection(encoder) is True
    assert frozen(encoder) == {
        name for name, p in encoder.named_parameters() if p is projection.weight or p is projection.bias
    }
    patch = 16 if name == "timm" else 8
    limit = math.sqrt(6 / (3 * patch**2 + projection.out_channels))  # Xavier uniform
    assert 0.95 * limit < projection.weight.abs().max() <= limit
    assert not torch.equal(projection.weight, before)
    assert projection.bias is None or torch.equal(projection.bias, torch.zeros_like(projection.bias))


def test_a_vit_with_rotary_positions_has_none_to_fix():
    encoder = built({"model_type": "dinov3_vit", **SIZES})
    assert fix_positions(encoder) is False and frozen(encoder) == set()
    assert freeze_patch_projection(encoder) is True


@pytest.mark.parametrize("name", OTHERS)
def test_other_encoders_are_left_alone(name):
    encoder = built(OTHERS[name])
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    assert freeze_patch_projection(encoder) is False and fix_positions(encoder) is False
    assert frozen(encoder) == set()
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_other_image_sizes_interpolate_the_positions():
    encoder = built(VITS["dinov2"][0])
    fix_positions(encoder)
    assert torch.isfinite(encode(encoder, torch.randn(2, 3, 48, 48))).all()
