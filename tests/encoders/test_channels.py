"""Encoders of other channels than three: built for them, with released weights made to fit as timm makes them."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from hfcontrast.encoders.build import build_encoder
from hfcontrast.encoders.channels import adapted, channels_of, set_channels
from hfcontrast.encoders.features import encode, require_channels
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.encoders.weights import load_weights
from hfcontrast.errors import ArgumentError

RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "patch_size": 8,
}


@pytest.mark.parametrize("backbone", [RESNET, VIT, "timm/resnet18"], ids=str)
@pytest.mark.parametrize("channels", [1, 8])
def test_an_encoder_is_built_for_the_channels(backbone, channels):
    config = backbone_config(backbone, [32])
    set_channels(config, channels)
    encoder = build_encoder(config).eval()
    assert channels_of(encoder) == channels and encode(encoder, torch.zeros(1, channels, 32, 32)).ndim == 2
    require_channels(encoder, channels)
    with pytest.raises(ArgumentError, match=f"takes images of {channels} channel"):
        require_channels(encoder)


def test_architectures_without_such_a_setting_are_named():
    with pytest.raises(ArgumentError, match="'levit' takes|takes images of 3 channels alone"):
        set_channels(AutoConfig.for_model("bert"), 8)


@pytest.mark.parametrize(
    "backbone, first", [(RESNET, "embedder.embedder.convolution.weight"), (VIT, "projection.weight")]
)
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_the_first_layer_of_released_weights_is_adapted_and_said(backbone, first, channels, tmp_path):
    source = build_encoder(backbone_config(backbone, [32]))
    AutoModel.from_config(source.config).save_pretrained(tmp_path)
    source = AutoModel.from_pretrained(tmp_path)
    name = next(key for key in source.state_dict() if key.endswith(first))
    written = {"pretrained": str(tmp_path)}
    config = backbone_config(written, [32])
    set_channels(config, channels)
    encoder = build_encoder(config)
    loaded = load_weights(encoder, written)
    assert name in loaded.names and f"{name} was made one for {channels} channels" in loaded.sentence
    released, own = source.state_dict()[name], encoder.state_dict()[name]
    if channels == 1:
        assert torch.allclose(own, released.sum(1, keepdim=True))
    else:
        assert torch.allclose(own[:, 0], released[:, 0] * 3 / channels)
        assert torch.allclose(own[:, channels - 1], released[:, (channels - 1) % 3] * 3 / channels)
    others = [key for key in encoder.state_dict() if key != name and key in source.state_dict()]
    assert all(torch.equal(encoder.state_dict()[key], source.state_dict()[key]) for key in others)


def test_what_differs_otherwise_is_not_adapted():
    assert adapted(torch.zeros(4, 3, 2, 2), torch.zeros(4, 8, 3, 3)) is None
    assert adapted(torch.zeros(4, 8, 2, 2), torch.zeros(4, 3, 2, 2)) is None
    assert adapted(torch.zeros(4, 3), torch.zeros(4, 8)) is None
