"""Released encoders: opened from folders of any kind, frozen, with the normalization that their own processor has."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPConfig, CLIPModel, ViTConfig, ViTImageProcessor, ViTModel

from hfcontrast.commands.models import open_model
from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.encoders.released import open_released
from hfcontrast.errors import ArgumentError, HFContrastError
from hfcontrast.publishing.export import export_encoder
from hfcontrast.publishing.processor import timm_settings
from hfcontrast.testing import TINY_TOWERS

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "patch_size": 8,
    "image_size": 32,
}


@pytest.fixture
def vit(tmp_path):
    """A folder with a ViT and an image processor whose numbers are its own."""
    ViTModel(ViTConfig(**VIT), add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    processor = ViTImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]
    )
    processor.save_pretrained(tmp_path / "vit")
    return str(tmp_path / "vit")


def test_its_features_are_those_of_its_own_processor(vit):
    """An image of the processor's size, normalized by what was found of the processor, gives the features of that."""
    teacher = open_released(vit)
    mean, std, size = teacher.normalization
    assert (mean, std, size) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 32)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    prepared = AutoImageProcessor.from_pretrained(vit)(Image.fromarray(image), return_tensors="pt").pixel_values
    own = (torch.tensor(image).permute(2, 0, 1)[None] / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
        :, None, None
    ]
    torch.testing.assert_close(own, prepared, rtol=0, atol=1e-5)
    expected = encode(ViTModel.from_pretrained(vit, add_pooling_layer=False).eval(), prepared)
    torch.testing.assert_close(teacher(own), expected, rtol=1e-4, atol=1e-5)
    assert teacher.feature_size == 16 and teacher.released and teacher(own).requires_grad is False


def test_it_is_frozen_in_evaluation_mode_and_never_copied(vit):
    teacher = open_released(vit)
    assert not teacher.model.training and not any(p.requires_grad for p in teacher.model.parameters())
    assert copy.deepcopy(teacher) is teacher
    assert teacher(torch.randn(3, 3, 64, 64)).shape == (3, 16)  # positions are interpolated


def test_a_model_of_timm_is_opened(tmp_path):
    config = backbone_config(
        {
            "model_type": "timm_wrapper",
            "architecture": "resnet10t",
            "model_args": {"stem_width": 8, "channels": [8, 8, 8, 16]},
        },
        [32],
    )
    encoder = build_encoder(config)
    settings = timm_settings(32, 1.0, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    export_encoder(encoder, None, tmp_path / "timm", settings, encoder.state_dict())
    teacher = open_released(str(tmp_path / "timm"))
    assert teacher.normalization == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 32) and teacher.feature_size == 16
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(teacher(pixels), encode(encoder.eval(), pixels), rtol=1e-4, atol=1e-5)


def test_of_a_model_with_two_towers_the_image_tower_is_opened(tmp_path):
    model = CLIPModel(CLIPConfig(**{key: value for key, value in TINY_TOWERS.items() if key != "model_type"})).eval()
    model.save_pretrained(tmp_path / "clip")
    teacher = open_released(str(tmp_path / "clip"))
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(teacher(pixels), model.vision_model(pixel_values=pixels).pooler_output)
    assert teacher.normalization is None  # there is no processor


def test_random_weights_are_always_the_same_and_draw_nothing_from_the_callers_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = open_released({"model_type": "vit", **VIT})
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    second = open_released({"model_type": "vit", **VIT})
    assert first.fingerprint() == second.fingerprint() and not first.released
    other = open_released({"model_type": "vit", **VIT, "hidden_size": 32})
    assert other.fingerprint() != first.fingerprint()


@pytest.mark.parametrize(
    "written, told",
    [
        ({"size": 3}, "expected a folder or a name on the Hub"),
        ({"pretrained": "x", "lora": {"r": 2}}, "lora: unknown key beside pretrained"),
        ({"model_type": "bert"}, "takes no images"),
        (TINY_TOWERS, "name its image tower, such as clip_vision_model"),
        ("/no/such/folder", "is neither a folder with a model nor a model on the Hub"),
    ],
)
def test_what_cannot_be_a_teacher_is_refused(written, told):
    with pytest.raises(ArgumentError, match=told):
        open_released(written)


def test_encoders_of_gray_images_are_refused_where_images_are_in_color(tmp_path):
    ViTModel(ViTConfig(num_channels=1, **VIT), add_pooling_layer=False).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(HFContrastError, match="'vit' takes images of 1 channel .*take other weights"):
        open_released(str(tmp_path))
    with pytest.raises(HFContrastError, match="gives no feature vector for an image"):  # its mean is of three colors
        open_model(str(tmp_path)).image_width()
    ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5], image_std=[0.5]).save_pretrained(tmp_path)
    assert open_model(str(tmp_path)).image_width() == VIT["hidden_size"]
