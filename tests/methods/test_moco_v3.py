"""MoCo v3: its loss put together by hand, its heads, its schedule, what it fixes in a ViT, and the paper's settings."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.encoders.vit import sincos_positions
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.moco_v3 import MoCoV3, MoCoV3Config
from hfcontrast.testing import build, check_method, random_batch
from hfcontrast.training.optim import parameter_groups

SMALL = {"projection_dim": 8, "hidden_dim": 16}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
POSITIONS, PROJECTION = "embeddings.position_embeddings", "embeddings.patch_embeddings.projection"


def mlp(head, rows):
    """Linear layers, each with batch normalization behind it; ReLU but for the last."""
    for layer in head:
        if isinstance(layer, torch.nn.Linear):
            rows = rows @ layer.weight.T
        elif isinstance(layer, torch.nn.BatchNorm1d):
            rows = F.batch_norm(rows, None, None, layer.weight, layer.bias, True)
        else:
            rows = rows.relu()
    return rows


def half_loss(query, key, temperature):
    """Algorithm 1 of the paper: ctr(q, k)."""
    logits = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / temperature
    return 2 * temperature * F.cross_entropy(logits, torch.arange(len(query)))


@pytest.mark.parametrize("backbone", [None, TINY_RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("temperature", [0.2, 1])
def test_the_loss_is_that_of_the_parts(backbone, temperature):
    method = build(MoCoV3, backbone, **SMALL, temperature=temperature)
    with torch.no_grad():
        for parameter in (*method.momentum_encoder.parameters(), *method.momentum_projector.parameters()):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    pixels = random_batch(MoCoV3, 6)["pixel_values"]
    q1, q2 = (mlp(method.predictor, mlp(method.projector, encode(method.encoder, pixels[:, v]))) for v in (0, 1))
    k1, k2 = (mlp(method.momentum_projector, encode(method.momentum_encoder, pixels[:, v])) for v in (0, 1))
    output = method(pixel_values=pixels)
    expected = half_loss(q1, k2, temperature) + half_loss(q2, k1, temperature)
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)
    similarity = (F.cosine_similarity(q1, k2).mean() + F.cosine_similarity(q2, k1).mean()) / 2
    torch.testing.assert_close(output.metrics["positive_similarity"], similarity.detach(), rtol=1e-4, atol=1e-5)


def test_keys_have_no_gradient():
    method = build(MoCoV3, **SMALL)
    embedded = method.embed(random_batch(MoCoV3, 4)["pixel_values"])
    assert embedded["query"].requires_grad and not embedded["key"].requires_grad
    method.objective(embedded).loss.backward()
    teachers = (method.momentum_encoder, method.momentum_projector)
    assert all(p.grad is None for teacher in teachers for p in teacher.parameters())


def test_the_heads_are_the_papers():
    method = build(MoCoV3)
    names = [[type(layer).__name__ for layer in head] for head in (method.projector, method.predictor)]
    hidden = ["Linear", "BatchNorm1d", "ReLU"]
    assert names == [[*hidden, *hidden, "Linear", "BatchNorm1d"], [*hidden, "Linear", "BatchNorm1d"]]
    for head in (method.projector, method.predictor):
        linear = [layer for layer in head if isinstance(layer, torch.nn.Linear)]
        assert [layer.out_features for layer in linear] == [4096] * (len(linear) - 1) + [256]
        assert all(layer.bias is None for layer in linear)
        assert head[-1].weight is None and head[1].weight is not None
    resnet = build(MoCoV3, projector_layers=2, predictor_batch_norm_last=False)
    assert [type(layer).__name__ for layer in resnet.projector] == [*hidden, "Linear", "BatchNorm1d"]
    assert [type(layer).__name__ for layer in resnet.predictor] == [*hidden, "Linear"]
    assert resnet.predictor[-1].bias is None


def test_a_vit_keeps_its_random_patches_and_fixed_positions():
    method = build(MoCoV3, **SMALL)
    for encoder in (method.encoder, method.momentum_encoder):
        positions = encoder.get_parameter(POSITIONS)[0]
        assert torch.equal(positions[1:], sincos_positions(4, 4, 32)) and not positions[0].any()
        assert not encoder.get_parameter(f"{PROJECTION}.bias").any()
    before = {name: value.clone() for name, value in method.encoder.state_dict().items()}
    trained = {id(p) for group in parameter_groups(method, 0.1) for p in group["params"]}
    fixed = (POSITIONS, f"{PROJECTION}.weight", f"{PROJECTION}.bias")
    assert not trained & {id(method.encoder.get_parameter(name)) for name in fixed}

    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=0.01, weight_decay=0.5)
    for step in range(2):
        output = method(**random_batch(MoCoV3, 4))
        output.loss.backward()
        optimizer.step()
        method.after_step([output], Progress(step, 4))
    for name, parameter in method.encoder.named_parameters():
        assert torch.equal(parameter, before[name]) == (name in fixed or name.endswith("mask_token")), name
    for name in fixed:
        torch.testing.assert_close(method.momentum_encoder.get_parameter(name), before[name])


def test_what_is_fixed_stays_fixed_after_loading(tmp_path):
    method = build(MoCoV3, **SMALL)
    method.save_pretrained(tmp_path)
    loaded = MoCoV3.from_pretrained(tmp_path)
    for name in (POSITIONS, f"{PROJECTION}.weight", f"{PROJECTION}.bias"):
        assert not loaded.encoder.get_parameter(name).requires_grad
        assert torch.equal(loaded.encoder.get_parameter(name), method.encoder.get_parameter(name))


def test_both_are_options():
    method = build(MoCoV3, **SMALL, freeze_patch_projection=False, fixed_positions=False)
    assert method.encoder.get_parameter(POSITIONS).requires_grad
    assert method.encoder.get_parameter(f"{PROJECTION}.weight").requires_grad


@pytest.mark.parametrize("step", [0, 30, 100])
def test_the_momentum_rises_to_one_along_a_cosine(step):
    method = build(MoCoV3, **SMALL, momentum=0.9)
    output = method(**random_batch(MoCoV3, 2))
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    before = {name: p.clone() for name, p in method.named_parameters()}
    method.after_step([output], Progress(step, 100))
    momentum = 1 - 0.1 * (1 + math.cos(math.pi * step / 100)) / 2
    followed = 0
    for name, parameter in method.named_parameters():
        if name.startswith("momentum_"):
            expected = momentum * before[name] + (1 - momentum) * before[name.removeprefix("momentum_")]
            torch.testing.assert_close(parameter, expected, rtol=1e-4, atol=1e-6)
            followed += 1
        else:
            assert torch.equal(parameter, before[name])
    assert followed and not any(name.startswith("momentum_predictor") for name in before)
    assert method.export_encoder() is method.encoder


def test_other_numbers_of_views_are_refused():
    with pytest.raises(RecipeError, match="two views .* got 1: change the count"):
        build(MoCoV3, **SMALL)(pixel_values=random_batch(MoCoV3, 2)["pixel_values"][:, :1])


def test_the_settings_are_the_papers():
    config = MoCoV3Config()
    assert (config.projection_dim, config.hidden_dim, config.temperature, config.momentum) == (256, 4096, 0.2, 0.99)
    assert config.freeze_patch_projection and config.fixed_positions


def test_the_views_are_the_papers():
    for view in MoCoV3.views:
        assert (view.count, view.size, view.scale, view.interpolation) == (1, 224, (0.08, 1.0), "bilinear")
        assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.2, 0.1, 0.8)
        assert (view.grayscale, view.horizontal_flip, view.blur_sigma) == (0.2, 0.5, (0.1, 2.0))
    assert [(view.blur, view.solarize, view.solarize_threshold) for view in MoCoV3.views] == [
        (1.0, 0.0, 128),
        (0.1, 0.2, 128),
    ]


@pytest.mark.parametrize(
    "name, value", [("temperature", 0), ("momentum", 1.5), ("projector_layers", 0), ("predictor_layers", 0)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        MoCoV3Config(**{name: value})


def test_contract():
    check_method(MoCoV3, **SMALL)
