"""MoCo v2: what it changes in MoCo, which is the head, the views and the temperature."""

import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.methods.moco_v2 import MoCoV2, MoCoV2Config
from hfcontrast.testing import build, check_method, random_batch

SMALL = {"projection_dim": 8, "hidden_dim": 12, "queue_size": 20}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def project(head, features):
    first, _, last = head
    return F.normalize((features @ first.weight.T + first.bias).relu() @ last.weight.T + last.bias, dim=1)


def test_the_loss_is_that_of_the_parts():
    method = build(MoCoV2, **SMALL)
    with torch.no_grad():
        for parameter in (*method.momentum_encoder.parameters(), *method.momentum_head.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    pixels = random_batch(MoCoV2, 5)["pixel_values"]
    query = project(method.head, encode(method.encoder, pixels[:, 0]))
    key = project(method.momentum_head, encode(method.momentum_encoder, pixels[:, 1]))
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ method.queue.rows.T], dim=1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(method(pixel_values=pixels).loss, expected, rtol=1e-4, atol=1e-5)


def test_the_settings_are_the_papers():
    config = MoCoV2Config()
    assert (config.projection_dim, config.queue_size, config.temperature, config.momentum) == (128, 65536, 0.2, 0.999)
    head = build(MoCoV2, queue_size=4).head
    assert [type(layer).__name__ for layer in head] == ["Linear", "ReLU", "Linear"]
    assert (head[0].out_features, head[2].out_features) == (2048, 128)


def test_the_views_are_the_papers():
    (view,) = MoCoV2.views
    assert (view.count, view.size, view.scale, view.horizontal_flip, view.interpolation) == (
        2,
        224,
        (0.2, 1.0),
        0.5,
        "bilinear",
    )
    assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.4, 0.1, 0.8)
    assert (view.grayscale, view.blur, view.blur_sigma, view.solarize) == (0.2, 0.5, (0.1, 2.0), 0.0)


def test_contract():
    check_method(MoCoV2, **SMALL)
