"""The encoder of a method that was trained in another loop, written as a run publishes it."""

from dataclasses import replace

import pytest
from transformers import AutoImageProcessor, AutoModel

from hfcontrast.encoders.build import build_encoder
from hfcontrast.encoders.subconfig import whole_config
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.publishing.export import save_encoder
from hfcontrast.testing.small import TINY_BACKBONE

VIT = {"model_type": "vit", "intermediate_size": 64, **{k: v for k, v in TINY_BACKBONE.items() if k != "model_type"}}
TIMM = {"model_type": "timm_wrapper", "architecture": "resnet10t"}


@pytest.mark.parametrize("config", [VIT, TIMM])
def test_the_encoder_loads_whole_with_its_processor(config, tmp_path):
    encoder = build_encoder(whole_config(dict(config), "vit"))
    method = SimCLR.from_encoder(encoder, views=[replace(view, size=32) for view in SimCLR.views])
    save_encoder(method, tmp_path, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5))
    _, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    mean = processor.image_mean if config is VIT else processor.data_config["mean"]
    assert list(mean) == [0.1, 0.2, 0.3]
