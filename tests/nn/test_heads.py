"""Projection heads: shapes, layers and first weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hfcontrast.nn import DINOHead, MLPHead, Prototypes, StandardizedLinear


def kinds(head):
    return [type(layer).__name__ for layer in head]


def test_mlp_layers():
    assert kinds(MLPHead(8, 4, 2)) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert kinds(MLPHead(8, 4, 4, 2, batch_norm=False)) == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert kinds(MLPHead(8, 2, batch_norm_last="plain")) == ["Linear", "BatchNorm1d"]
    head = MLPHead(8, 4, 2, batch_norm_last="affine")
    assert head[0].bias is None and head[3].bias is None and head[4].weight is not None
    assert MLPHead(8, 2, batch_norm_last="plain")[1].weight is None
    assert MLPHead(8, 4, 2, batch_norm=False)[0].bias is not None
    assert all(layer.bias is None for layer in MLPHead(8, 4, 2, batch_norm=False, bias=False) if hasattr(layer, "bias"))


def test_the_output_layer_can_have_biases_of_its_own():
    head = MLPHead(8, 4, 2, batch_norm=False, bias_last=False)
    assert head[0].bias is not None and head[2].bias is None
    assert MLPHead(8, 4, 2, bias=False, bias_last=True)[3].bias is not None
    assert MLPHead(8, 4, 2, bias_last=True, batch_norm_last="plain")[3].bias is None


@pytest.mark.parametrize("norm, kind", [("layer", "LayerNorm"), ("group", "GroupNorm")])
def test_norms_that_treat_samples_apart(norm, kind):
    head = MLPHead(8, 12, 6, 2, norm=norm, groups=3)
    assert kinds(head) == ["Linear", kind, "ReLU", "Linear", kind, "ReLU", "Linear"]
    assert head[0].bias is not None and head[1].weight.shape == (12,)
    features = torch.randn(5, 2, 8)
    torch.testing.assert_close(head(features)[3, 1], head(features[3:4, 1])[0])
    hidden = F.linear(features[0, :1], head[0].weight, head[0].bias)
    groups = hidden.view(1, 3 if norm == "group" else 1, -1)
    centered = groups - groups.mean(-1, keepdim=True)
    expected = centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(head[1](hidden), expected.view(1, 12))


def test_weight_standardization():
    head = MLPHead(8, 12, 2, norm="group", groups=3, standardize=True)
    assert kinds(head) == ["StandardizedLinear", "GroupNorm", "ReLU", "StandardizedLinear"]
    layer = StandardizedLinear(200, 3)
    torch.nn.init.normal_(layer.weight, mean=2.0, std=5.0)
    used = layer(torch.eye(200)).T - layer.bias[:, None]  # row by row what the layer multiplies by
    torch.testing.assert_close(used.mean(1), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(used.var(1, correction=0), torch.ones(3))
    expected = (layer.weight - layer.weight.mean(1, True)) / layer.weight.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(used, expected)
    layer(torch.randn(4, 200)).square().sum().backward()
    # Neither a shift nor a stretch of a row changes the outcome, so the gradient has no part along either.
    gradient, size = layer.weight.grad, layer.weight.grad.norm()
    assert size > 0 and gradient.sum(1).abs().max() < 1e-4 * size
    assert (gradient * layer.weight).sum(1).abs().max() < 1e-3 * size


@pytest.mark.parametrize("leading", [(6,), (3, 2), (3, 2, 2)])
def test_mlp_takes_all_leading_dimensions_as_the_batch(leading):
    head = MLPHead(8, 5, 3, batch_norm_last="affine")
    features = torch.randn(*leading, 8)
    output = head(features)
    assert output.shape == (*leading, 3)
    torch.testing.assert_close(output.flatten(0, -2), nn.Sequential(*head)(features.reshape(-1, 8)))
    torch.testing.assert_close(output.flatten(0, -2).mean(0), torch.zeros(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("learn_gain", [False, True])
def test_prototypes_are_torchs_weight_normalized_layer(learn_gain):
    prototypes = Prototypes(6, 9, learn_gain=learn_gain)
    linear = nn.Linear(6, 9, bias=False)
    linear.weight.data.copy_(prototypes.weight)
    linear = nn.utils.parametrizations.weight_norm(linear)
    gain, direction = linear.parametrizations.weight.original0, linear.parametrizations.weight.original1
    gain.data.fill_(1)
    if learn_gain:
        gain.data.uniform_(0.5, 2)
        prototypes.gain.data.copy_(gain)
    features = torch.randn(2, 4, 6)
    torch.testing.assert_close(prototypes(features), linear(features))
    prototypes(features).square().sum().backward()
    linear(features).square().sum().backward()
    torch.testing.assert_close(prototypes.weight.grad, direction.grad, rtol=1e-4, atol=1e-5)
    if learn_gain:
        torch.testing.assert_close(prototypes.gain.grad, gain.grad)
    else:
        assert [name for name, _ in prototypes.named_parameters()] == ["weight"]
        torch.testing.assert_close(prototypes.directions().norm(dim=1), torch.ones(9))


def test_dino_head():
    head = DINOHead(12, 20, 20, 5)
    assert kinds(head.layers) == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    assert kinds(DINOHead(12, 20, 5, batch_norm=True).layers) == ["Linear", "BatchNorm1d", "GELU", "Linear"]
    features = torch.randn(3, 4, 12)
    output = head(features)
    torch.testing.assert_close(output.norm(dim=-1), torch.ones(3, 4))
    torch.testing.assert_close(output[1, 2], F.normalize(head.layers(features[1, 2]), dim=0))
    assert head.bfloat16()(features.bfloat16()).dtype == torch.float32


def test_dino_heads_first_weights():
    layers = [layer for layer in DINOHead(512, 512, 256).layers if isinstance(layer, nn.Linear)]
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert layer.bias.abs().max() == 0
