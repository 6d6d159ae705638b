"""BYOL: its loss and its target network by hand, its heads with and without batch statistics, and the paper's settings."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.methods.base import Progress
from hfcontrast.methods.byol import BYOL, BYOLConfig
from hfcontrast.nn import StandardizedLinear
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

SMALL = {"hidden_dim": 32, "projection_dim": 8}
WITHOUT_BATCH = {"head_norm": "group", "head_groups": 4, "weight_standardization": True}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def shaken(method, scale=0.3):
    """The method with an online network that is no longer its target."""
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * scale * parameter.std(correction=0))
    return method


def by_hand(method, pixels):
    """Equation 2 for either view, each view in a pass of its own."""
    online, target = [], []
    for view in range(2):
        projection = method.projector(encode(method.encoder, pixels[:, view]))
        online.append(method.predictor(projection))
        target.append(method.target_projector(encode(method.target_encoder, pixels[:, view])).detach())
    distances = [F.normalize(online[view], dim=1) - F.normalize(target[1 - view], dim=1) for view in range(2)]
    return sum(distance.square().sum(dim=1).mean() for distance in distances)


@pytest.mark.parametrize("backbone", [None, TINY_RESNET], ids=["vit", "resnet"])
def test_the_loss_and_its_gradients_are_those_of_the_paper(backbone):
    method = shaken(build(BYOL, backbone, **SMALL))
    pixels = random_batch(BYOL, 6)["pixel_values"]
    gradients = []
    losses = [method(pixel_values=pixels).loss, by_hand(method, pixels)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    for loss in losses:
        method.zero_grad()
        loss.backward()
        gradients.append({name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert not any(name.startswith("target") for name in gradients[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5)


def test_the_loss_is_between_0_and_8():
    method = build(BYOL, **SMALL)
    for value, expected in ((1.0, 0.0), (-1.0, 8.0)):
        method.predictor.forward = lambda z, value=value: value * torch.ones_like(z)
        method.target_projector.forward = lambda h: torch.ones(len(h), 8)
        output = method(**random_batch(BYOL, 4))
        assert output.loss.item() == pytest.approx(expected, abs=1e-5)
        assert output.metrics["positive_similarity"].item() == pytest.approx(value)


def test_batch_statistics_are_those_of_one_view():
    method = build(BYOL, TINY_RESNET, **SMALL)
    pixels = random_batch(BYOL, 5)["pixel_values"]
    pixels[:, 1] = 3 * pixels[:, 1] + 1
    embeddings = method.embed(pixels)
    for name, encoder in (("online", method.encoder), ("target", method.target_encoder)):
        alone = torch.stack([encode(encoder, pixels[:, view]) for view in range(2)], dim=1)
        torch.testing.assert_close(embeddings[name], alone)
    seen = []
    method.predictor[1].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    method.objective(embeddings)
    assert seen == [5, 5]


@pytest.mark.parametrize("step", [0, 30, 100])
def test_the_target_is_a_moving_average_whose_momentum_rises_to_1(step):
    method = shaken(build(BYOL, **SMALL, target_momentum=0.9))
    targets = {name: p for name, p in method.named_parameters() if name.startswith("target_")}
    assert {name.split(".")[0] for name in targets} == {"target_encoder", "target_projector"}
    before = {name: p.clone() for name, p in targets.items()}
    method.after_step([], Progress(step, 100))
    momentum = 1 - (1 - 0.9) * (math.cos(math.pi * step / 100) + 1) / 2  # section 3.2
    for name, target in targets.items():
        online = method.get_parameter(name.removeprefix("target_"))
        torch.testing.assert_close(target, momentum * before[name] + (1 - momentum) * online, rtol=1e-4, atol=1e-6)


def test_the_heads_are_the_papers():
    method = build(BYOL)
    for head, width in ((method.projector, method.feature_size), (method.predictor, 256)):
        first, norm, _, last = head
        assert (first.in_features, first.out_features, last.in_features, last.out_features) == (width, 4096, 4096, 256)
        assert isinstance(norm, nn.BatchNorm1d) and last.bias is None and len(head) == 4


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_heads_without_batch_statistics_treat_samples_apart(norm):
    method = shaken(build(BYOL, **SMALL, head_norm=norm, head_groups=4, weight_standardization=True))
    heads = (method.projector, method.predictor, method.target_projector)
    assert not any(isinstance(layer, nn.BatchNorm1d) for head in heads for layer in head)
    assert all(isinstance(layer, StandardizedLinear) for head in heads for layer in (head[0], head[3]))
    pixels = random_batch(BYOL, 4)["pixel_values"]
    singles = [method(pixel_values=pixels[row : row + 1]).loss for row in range(4)]
    torch.testing.assert_close(method(pixel_values=pixels).loss, torch.stack(singles).mean(), rtol=1e-4, atol=1e-5)


def test_the_published_encoder_is_the_online_one():
    method = build(BYOL, **SMALL)
    assert method.export_encoder() is method.encoder


def test_the_views_are_the_papers():
    for view in BYOL.views:
        assert (view.key, view.count, view.size, view.scale, view.ratio) == (
            "pixel_values", 1, 224, (0.08, 1.0), (3 / 4, 4 / 3)
        )  # fmt: skip
        assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.2, 0.1, 0.8)
        assert (view.grayscale, view.horizontal_flip, view.blur_sigma, view.interpolation) == (
            0.2, 0.5, (0.1, 2.0), "bicubic"
        )  # fmt: skip
    assert [(view.blur, view.solarize) for view in BYOL.views] == [(1.0, 0.0), (0.1, 0.2)]


def test_the_settings_are_the_papers_and_checked():
    config = BYOLConfig()
    assert (config.hidden_dim, config.projection_dim, config.target_momentum) == (4096, 256, 0.996)
    assert (config.head_norm, config.weight_standardization) == ("batch", False)
    with pytest.raises(Exception, match="target_momentum is 1.5, expected a number between 0 and 1"):
        BYOLConfig(target_momentum=1.5)
    with pytest.raises(Exception, match="head_groups is 3, expected a number that divides hidden_dim, 32"):
        BYOLConfig(head_norm="group", head_groups=3, hidden_dim=32)


@pytest.mark.parametrize(
    "backbone, options", [(TINY_BACKBONE, WITHOUT_BATCH), (TINY_RESNET, {})], ids=["vit without batch", "resnet"]
)
def test_contract(backbone, options):
    check_method(BYOL, backbone, **SMALL, **options)
