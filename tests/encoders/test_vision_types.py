"""The tiny configurations of all architectures: they are found, small, and build at once."""

import time

import pytest
import torch
import vision_types
from transformers import AutoModel

from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.errors import RecipeError

# Not built without packages or fields that nobody has by default, or (depth_pro) small in no setting: tested by what is said of them.
NOT_BUILT = {"depth_pro", "dinat", "mgp-str", "pp_ocrv6_medium_det", "vision-text-dual-encoder"}


def test_kinds_of_architectures_follow_from_what_their_models_take():
    alone, more = {"vit", "timm_wrapper", "detr"}, {"clip", "llava", "siglip2_vision_model"}
    assert all(vision_types.takes_images(name) for name in alone | more)
    assert not any(vision_types.takes_images(name) for name in ("bert", "wav2vec2"))
    assert {name for name in alone | more if vision_types.takes_only_images(name)} == alone
    assert {name for name in alone | more if vision_types.has_two_towers(name)} == {"clip"}
    assert vision_types.tiny_backbone("llava") == {"model_type": "llava"}


def check(name):
    torch.manual_seed(0)
    started = time.process_time()
    config = backbone_config(vision_types.tiny_backbone(name), [vision_types.SIZE])
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters < 8_000_000, f"{name} has {parameters:,} parameters"
    assert time.process_time() - started < 10
    return model


@pytest.mark.parametrize("name", ["beit", "bit", "convnext", "cvt", "detr", "sam", "segformer", "swin"])
def test_a_configuration_is_small(name):
    assert check(name).config.model_type == name


@pytest.mark.slow
def test_every_configuration_is_small():
    problems, names = {}, vision_types.model_types()
    assert len(names) > 100 and "small_resnet" not in names
    for name in names:
        if len(vision_types.tiny_backbone(name)) > 1 and name not in NOT_BUILT:
            try:
                check(name)
            except (AssertionError, RecipeError, ValueError, TypeError) as error:
                problems[name] = str(error)[:200]
    assert problems == {}
