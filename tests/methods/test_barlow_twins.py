"""Barlow Twins: its forward pass put together by hand, what a scaled loss does, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.methods.barlow_twins import BarlowTwins, BarlowTwinsConfig
from hfcontrast.recipe.sections import OptimSection
from hfcontrast.testing import build, check_method, random_batch
from hfcontrast.training.optim import build_optimizer

SMALL = {"projection_dim": 12, "hidden_dim": 20}
LARS_SETTINGS = OptimSection(name="lars", lr=0.2)
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def by_hand(first, second, off_diagonal):
    """The paper's algorithm 1."""
    first, second = ((z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt() for z in (first, second))
    correlation = first.T @ second / len(first)
    difference = (correlation - torch.eye(len(correlation))).square()
    difference[~torch.eye(len(correlation), dtype=torch.bool)] *= off_diagonal
    return difference.sum()


def test_the_loss_is_that_of_the_parts():
    method = build(BarlowTwins, **SMALL, off_diagonal=0.3, loss_scale=0.5)
    pixels = random_batch(BarlowTwins, 9)["pixel_values"]
    projections = []
    first, norm, _, second, second_norm, _, last = method.projector
    for view in (0, 1):  # batch normalization sees one view at a time
        x = method.encode(pixels[:, view : view + 1]).squeeze(1)
        x = F.batch_norm(x @ first.weight.T, None, None, norm.weight, norm.bias, True).relu()
        x = F.batch_norm(x @ second.weight.T, None, None, second_norm.weight, second_norm.bias, True).relu()
        projections.append(x @ last.weight.T)
    output = method(pixel_values=pixels)
    torch.testing.assert_close(output.loss, 0.5 * by_hand(*projections, 0.3), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.embeddings, torch.stack(projections, 1).detach(), rtol=1e-4, atol=1e-5)
    first, second = (z - z.mean(0) for z in projections)
    diagonal = ((first * second).sum(0) / (first.norm(dim=0) * second.norm(dim=0))).mean()
    torch.testing.assert_close(output.metrics["correlation"], diagonal.detach(), rtol=1e-4, atol=1e-5)


def test_no_layer_of_the_head_has_a_bias_and_each_view_has_its_own_pass():
    method = build(BarlowTwins, TINY_RESNET, **SMALL)
    linear = [layer for layer in method.projector if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [20, 20, 12] and all(layer.bias is None for layer in linear)
    passes = []
    method.encoder.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    method(**random_batch(BarlowTwins, 4))
    assert passes == [4, 4]


def test_under_lars_the_scale_is_a_learning_rate_of_biases_and_norms():
    """What the authors write as two learning rates, 0.2 and 0.0048 = 0.2 x 0.024, beside what divides their gradient."""
    moved = {}
    for scale in (1.0, 0.024):
        method = build(BarlowTwins, **SMALL, loss_scale=scale)
        before = {name: p.detach().clone() for name, p in method.named_parameters()}
        method(**random_batch(BarlowTwins, 8)).loss.backward()
        build_optimizer(method, LARS_SETTINGS).step()
        moved[scale] = {name: p.detach() - before[name] for name, p in method.named_parameters()}
    for name, one in moved[1.0].items():
        factor = 0.024 if one.ndim == 1 or name.endswith(".bias") else 1.0
        torch.testing.assert_close(moved[0.024][name], factor * one, rtol=1e-3, atol=1e-6, msg=name)


def test_views_and_settings_are_the_papers():
    first, second = BarlowTwins.views
    for view in BarlowTwins.views:
        assert (view.count, view.size, view.scale, view.interpolation) == (1, 224, (0.08, 1.0), "bicubic")
        assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.2, 0.1, 0.8)
        assert (view.grayscale, view.horizontal_flip, view.blur_sigma) == (0.2, 0.5, (0.1, 2.0))
    assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)
    config = BarlowTwinsConfig()
    assert (config.projection_dim, config.hidden_dim, config.head_layers, config.off_diagonal) == (
        8192,
        8192,
        3,
        0.0051,
    )


@pytest.mark.parametrize("name, value", [("head_layers", 0), ("off_diagonal", -1), ("loss_scale", 0)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        BarlowTwinsConfig(**{name: value})


def test_contract():
    check_method(BarlowTwins, **SMALL)
