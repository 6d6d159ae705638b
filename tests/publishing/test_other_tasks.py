"""What cards say of transformers' classifiers and of image processors for dense tasks is so."""

import re

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoModel, AutoModelForImageClassification

from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.publishing.export import export_encoder
from hfcontrast.publishing.other_tasks import told_classifier, told_processor
from hfcontrast.publishing.processor import build_processor
from hfcontrast.publishing.usage import usage

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}
COLORS = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def made(model_type, mean, **settings):
    encoder = build_encoder(backbone_config({"model_type": model_type, **TINY, **settings}, [32])).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():  # as after some training
            parameter.add_(0.1 * torch.randn_like(parameter))
    if mean:
        encoder.config.feature_pooling = "mean"
    return encoder


@pytest.mark.parametrize("mean", [False, True], ids=["class token", "mean"])
@pytest.mark.parametrize("use_mean", [True, False], ids=["", "use_mean_pooling false"])
@pytest.mark.parametrize("model_type", ["vit", "deit", "vit_msn", "dinov2", "ijepa", "beit", "data2vec-vision"])
def test_a_card_says_where_a_classifier_reads_other_tokens(model_type, use_mean, mean, tmp_path):
    in_family = model_type in ("beit", "data2vec-vision")
    encoder = made(model_type, mean, **({"use_mean_pooling": use_mean} if in_family else {}))
    export_encoder(encoder, build_processor(encoder, 32, 1.0, *COLORS), tmp_path)
    model = AutoModelForImageClassification.from_pretrained(tmp_path, num_labels=3).eval()
    read, pixels = [], torch.randn(2, 3, 32, 32)
    model.classifier.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    with torch.no_grad():
        features = encode(encoder, pixels)
        tokens = encoder(pixels).last_hidden_state
        model(pixels)
    same = features.shape == read[0].shape and torch.allclose(features, read[0], atol=1e-4)
    if in_family and use_mean and mean:  # normalized
        same = torch.allclose(torch.nn.functional.layer_norm(features, (16,), eps=1e-12), read[0], atol=1e-3)
    told = told_classifier(encoder)
    assert (told is None) == same
    if told:
        assert told.startswith(f"`{type(model).__name__}` reads ") and "torch.nn.Linear(16, classes)" in told
        said = re.search(r"reads (.+?), and not", told)[1]
        if said == "the class token":
            torch.testing.assert_close(read[0], tokens[:, 0])
        elif said == "the mean of the patches":
            expected = torch.nn.functional.layer_norm(tokens[:, 1:].mean(1), (16,), eps=1e-12)
            torch.testing.assert_close(read[0], expected, rtol=1e-3, atol=1e-3)
        else:
            torch.testing.assert_close(read[0], torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1))


SEGFORMER = {"depths": [1, 1], "hidden_sizes": [8, 8], "sr_ratios": [1, 1], "num_encoder_blocks": 2}
DENSE = {
    "segformer": {**SEGFORMER, "patch_sizes": [3, 3], "strides": [4, 2], "num_attention_heads": [1, 1], "mlp_ratios": [1, 1]},
    "beit": TINY,
    "data2vec-vision": TINY,
    "dpt": TINY,
}  # fmt: skip


@pytest.mark.parametrize("model_type", DENSE)
def test_the_processor_of_dense_tasks_prepares_maps_of_labels(model_type):
    encoder = build_encoder(backbone_config({"model_type": model_type, **DENSE[model_type]}, [32]))
    told = told_processor(encoder)
    assert "semantic segmentation" in told and "`AutoModelForSemanticSegmentation`" in told
    line = re.search(r"`(\w+ImageProcessor\(.*\))`", told)[1]
    names = {**vars(transformers), "processor": build_processor(encoder, 32, 1.0, *COLORS)}
    kind = getattr(transformers, line.partition("(")[0])
    own = eval(line, {**names, kind.__name__: kind})
    assert tuple(own.image_mean) == COLORS[0] and tuple(own.image_std) == COLORS[1]
    image, labels = Image.new("RGB", (40, 50)), np.ones((50, 40), dtype=np.uint8)
    assert own(image, segmentation_maps=Image.fromarray(labels), return_tensors="pt")["labels"].ndim == 3


def test_detection_takes_the_processor_of_the_architecture():
    told = told_processor(made("yolos", False, num_detection_tokens=2))
    assert "object detection (`AutoModelForObjectDetection`)" in told and "`YolosImageProcessor(" in told
    assert told_processor(made("vit", False)) is None


@pytest.mark.parametrize("model_type", ["data2vec-vision", "ijepa", "cvt"])
def test_no_pooler_is_warned_of_where_there_is_none(model_type, tmp_path):
    settings = {"depth": [1, 2, 3], "num_heads": [1, 1, 1], "embed_dim": [8, 8, 8]} if model_type == "cvt" else TINY
    encoder = build_encoder(backbone_config({"model_type": model_type, **settings}, [32])).eval()
    export_encoder(encoder, build_processor(encoder, 32, 1.0, *COLORS), tmp_path)
    with torch.no_grad():
        outputs = AutoModel.from_pretrained(tmp_path)(torch.zeros(1, 3, 32, 32))
    assert getattr(outputs, "pooler_output", None) is None and not usage(encoder, 32).other_pooler


def test_a_pooler_of_the_class_token_survives_offload(tmp_path):
    encoder = made("vit", False)
    export_encoder(encoder, build_processor(encoder, 32, 1.0, *COLORS), tmp_path / "out")
    pixels = torch.randn(2, 3, 32, 32)
    layers = {"embeddings": "cpu", "layers": "disk", "layernorm": "cpu", "pooler": "disk"}
    with torch.no_grad():
        expected = encode(encoder, pixels)
        for options in ({}, {}, {"device_map": layers, "offload_folder": tmp_path / "offloaded"}):
            model = AutoModel.from_pretrained(tmp_path / "out", **options).eval()
            torch.testing.assert_close(model(pixels).pooler_output, expected)
