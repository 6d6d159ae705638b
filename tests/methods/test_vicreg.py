"""VICReg: its forward pass put together by hand, what each term does alone, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.methods.vicreg import VICReg, VICRegConfig
from hfcontrast.testing import build, check_method, random_batch

SMALL = {"projection_dim": 12, "hidden_dim": 20}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def by_hand(first, second, invariance, variance, covariance):
    """The paper's algorithm 1, with the authors' means."""
    loss = invariance * F.mse_loss(first, second)
    for z in (first, second):
        loss = loss + variance * F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() / 2
        matrix = torch.cov(z.T)
        loss = loss + covariance * (matrix - torch.diag(matrix.diagonal())).square().sum() / z.shape[1]
    return loss


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_the_loss_is_that_of_the_parts(weights):
    names = ("invariance", "variance", "covariance")
    method = build(VICReg, **SMALL, **dict(zip(names, weights)))
    pixels = random_batch(VICReg, 9)["pixel_values"]
    projections = []
    first, norm, _, second, second_norm, _, last = method.expander
    for view in (0, 1):  # batch normalization sees one view at a time
        x = method.encode(pixels[:, view : view + 1]).squeeze(1)
        x = F.batch_norm(x @ first.weight.T, None, None, norm.weight, norm.bias, True).relu()
        x = F.batch_norm(x @ second.weight.T, None, None, second_norm.weight, second_norm.bias, True).relu()
        projections.append(x @ last.weight.T)
    output = method(pixel_values=pixels)
    torch.testing.assert_close(output.loss, by_hand(*projections, *weights), rtol=1e-4, atol=1e-5)
    z = torch.stack(projections, 1).detach()
    torch.testing.assert_close(output.embeddings, z, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.metrics["dimension_std"], z.std(0).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.metrics["view_distance"], F.mse_loss(z[:, 0], z[:, 1]), rtol=1e-4, atol=1e-5)


def test_each_view_has_its_own_pass():
    method = build(VICReg, TINY_RESNET, **SMALL)
    passes = []
    method.encoder.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    method(**random_batch(VICReg, 4))
    assert passes == [4, 4]


def test_the_head_is_as_deep_as_set():
    for layers in (1, 2, 4):
        linear = [
            layer for layer in build(VICReg, **SMALL, head_layers=layers).expander if isinstance(layer, torch.nn.Linear)
        ]
        assert [layer.out_features for layer in linear] == [20] * (layers - 1) + [12]
        assert linear[-1].bias is None


def test_views_and_settings_are_the_papers():
    (view,) = VICReg.views
    assert (view.count, view.size, view.scale, view.interpolation) == (2, 224, (0.08, 1.0), "bicubic")
    assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.2, 0.1, 0.8)
    assert (view.grayscale, view.blur, view.solarize, view.horizontal_flip) == (0.2, 0.5, 0.1, 0.5)
    config = VICRegConfig()
    assert (config.projection_dim, config.hidden_dim, config.head_layers) == (8192, 8192, 3)
    assert (config.invariance, config.variance, config.covariance) == (25.0, 25.0, 1.0)


@pytest.mark.parametrize("name, value", [("head_layers", 0), ("variance", -1), ("covariance", -0.5)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected 0 or more|{name} is {value}, expected 1 or more"):
        VICRegConfig(**{name: value})


def test_contract():
    check_method(VICReg, **SMALL)
