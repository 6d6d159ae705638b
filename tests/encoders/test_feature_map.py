"""Feature maps: every place of a map is the feature of that place of the image, for every encoder."""

import pytest
import torch

from hfcontrast.encoders import build_encoder
from hfcontrast.encoders.feature_map import feature_map
from hfcontrast.encoders.model_config import backbone_config

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8}
ENCODERS = {
    "resnet": (
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"},
        (12, 4, 4),
    ),
    "vit": ({"model_type": "vit", **SMALL}, (16, 4, 4)),
    "registers": ({"model_type": "dinov2_with_registers", "num_register_tokens": 4, **SMALL}, (16, 4, 4)),
    "ijepa": ({"model_type": "ijepa", **SMALL}, (16, 4, 4)),
    "swin": (
        {"model_type": "swin", "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
        (16, 4, 4),
    ),
    "timm vit": ("timm/vit_tiny_patch16_224", (192, 2, 2)),
    "timm swin": ("timm/swin_tiny_patch4_window7_224", (768, 1, 1)),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_map_has_the_shape_of_the_image(name):
    config, shape = ENCODERS[name]
    encoder = build_encoder(backbone_config(config, [32]))
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        hidden = encoder.eval()(pixels).last_hidden_state
    found = feature_map(encoder, hidden, tuple(pixels.shape[-2:]))
    assert found.shape == (2, *shape)
    if hidden.ndim == 3:  # the tokens of the patches are the last ones, row by row
        _, rows, columns = found.shape[1:]
        assert torch.equal(found[:, :, 1, 0], hidden[:, hidden.shape[1] - rows * columns + columns])
        assert torch.equal(found[:, :, -1, -1], hidden[:, -1])


def test_images_need_not_be_square():
    encoder = build_encoder(backbone_config({"model_type": "dinov2", **SMALL}, [32]))
    with torch.no_grad():
        hidden = encoder(torch.randn(1, 3, 32, 48)).last_hidden_state
    assert feature_map(encoder, hidden, (32, 48)).shape == (1, 16, 4, 6)
