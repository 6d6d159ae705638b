"""What is published of timm's architectures is fine-tuned through timm: with a new classifier, and with other channels."""

import json
from pathlib import Path

import pytest
import timm
import torch
from timm.models import _hub
from transformers import AutoConfig, AutoModelForImageClassification

from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.publishing.export import export_encoder
from hfcontrast.publishing.processor import timm_settings

SMALL_SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 2}
ARCHITECTURES = {
    "resnet": ("test_resnet", {}),
    "vit": ("test_vit", {}),
    "vit of any size, mean": ("test_vit", {"dynamic_img_size": True, "global_pool": "avg"}),
    "deit": ("deit_tiny_distilled_patch16_224", {"embed_dim": 16, "depth": 1, "num_heads": 2}),  # two classifiers
    "convnext": ("test_convnext", {}),
    "efficientnet": ("test_efficientnet", {}),
    "mobilenet": ("mobilenetv3_small_050", {}),
    "swin": ("swin_tiny_patch4_window7_224", SMALL_SWIN),
    "with the tag of released weights": ("test_resnet.r160_in1k", {}),
}
SIZE = 64


@pytest.fixture(params=ARCHITECTURES, scope="module")
def published(request, tmp_path_factory):
    """An encoder, its folder, images, and what it makes of them."""
    architecture, arguments = ARCHITECTURES[request.param]
    tmp_path = tmp_path_factory.mktemp("published")
    backbone = {"model_type": "timm_wrapper", "architecture": architecture, "model_args": arguments}
    encoder = build_encoder(backbone_config(backbone, [SIZE])).eval()
    export_encoder(encoder, None, tmp_path, timm_settings(SIZE, 1.0, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)))
    pixels = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        return encoder, f"local-dir:{tmp_path}", pixels, encode(encoder, pixels)


def of_encoder(model, encoder):
    """The weights of a model that are the encoder's, and the names of the others."""
    known = encoder.timm_model.state_dict()
    return [torch.equal(value, known[name]) for name, value in model.state_dict().items() if name in known], [
        name for name, _ in model.named_parameters() if name not in known
    ]


def test_a_new_classifier_is_put_on_the_published_weights(published):
    encoder, name, pixels, expected = published
    model = timm.create_model(name, pretrained=True, num_classes=4).eval()
    same, new = of_encoder(model, encoder)
    assert all(same) and len(same) == len(encoder.timm_model.state_dict())
    classifiers = model.pretrained_cfg["classifier"]
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers
    assert {f"{layer}.weight" for layer in classifiers} <= set(new) and not any("patch_embed" in n for n in new)
    with torch.no_grad():
        assert model(pixels).shape == (2, 4)
        model.reset_classifier(0)
        torch.testing.assert_close(model(pixels), expected)


def test_without_a_classifier_timm_gives_the_evaluated_features(published):
    _, name, pixels, expected = published
    for options in ({}, {"num_classes": 0}):
        with torch.no_grad():
            model = timm.create_model(name, pretrained=True, **options).eval()
            torch.testing.assert_close(model(pixels), expected)
            config = timm.data.resolve_data_config(model=model)
        assert [*config["input_size"]] == [3, SIZE, SIZE] and [*config["mean"]] == [0.5, 0.4, 0.3]


def test_the_configuration_has_the_width_of_the_last_layer(published):
    encoder, name, pixels, _ = published
    config = AutoConfig.from_pretrained(name.removeprefix("local-dir:"))
    with torch.no_grad():
        features = encoder.timm_model.forward_features(pixels)
    assert config.num_features in features.shape[1:]


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels_are_taken(published, channels):
    encoder, name, pixels, expected = published
    model = timm.create_model(name, pretrained=True, num_classes=0, in_chans=channels).eval()
    same, new = of_encoder(model, encoder)
    assert not new
    gray = torch.randn(2, 1, SIZE, SIZE)
    with torch.no_grad():
        assert model(gray.expand(-1, channels, -1, -1)).shape == expected.shape
        if channels == 1:  # timm adds up the filters of the three colors
            torch.testing.assert_close(model(gray), encode(encoder, gray.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)


def test_transformers_puts_a_classifier_on_the_same_folder(published):
    encoder, name, pixels, _ = published
    folder = name.removeprefix("local-dir:")
    model, report = AutoModelForImageClassification.from_pretrained(folder, num_labels=4, output_loading_info=True)
    same, new = of_encoder(model.timm_model, encoder)
    assert all(same) and not report["unexpected_keys"]
    with torch.no_grad():
        assert model.eval()(pixels).logits.shape == (2, 4)


def test_a_fine_tuned_model_keeps_the_names_of_its_classes(published, tmp_path):
    names = {"id2label": {0: "cat", 1: "dog"}, "label2id": {"cat": 0, "dog": 1}}
    config = AutoConfig.from_pretrained(published[1].removeprefix("local-dir:"), num_labels=2, **names)
    AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).id2label == names["id2label"]


def test_the_hub_gives_the_same_files(published, monkeypatch):
    """``hf-hub:`` reads the same files by way of ``hf_hub_download``."""
    encoder, name, pixels, _ = published
    folder = name.removeprefix("local-dir:")
    monkeypatch.setattr(_hub, "hf_hub_download", lambda repo_id=None, filename=None, **_: f"{folder}/{filename}")
    model = timm.create_model("hf-hub:someone/encoder", pretrained=True, num_classes=4, in_chans=1).eval()
    with torch.no_grad():
        assert model(pixels[:, :1]).shape == (2, 4)
    assert len(of_encoder(model, encoder)[0]) == len(encoder.timm_model.state_dict())
    assert json.loads(Path(folder, "config.json").read_text())["pretrained_cfg"]["num_classes"] == 0
