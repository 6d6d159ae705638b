"""SimSiam: its loss with the stopped gradient by hand, its heads, the predictor's constant learning rate, the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.methods.simsiam import SimSiam, SimSiamConfig
from hfcontrast.recipe.sections import OptimSection
from hfcontrast.testing import build, check_method, random_batch
from hfcontrast.training.optim import build_optimizer
from hfcontrast.training.schedules import set_schedules

SMALL = {"projection_dim": 16, "predictor_dim": 8}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def by_hand(method, pixels):
    """Algorithm 1, with its D(p, z)."""

    def distance(p, z):
        z = z.detach()
        return -(F.normalize(p, dim=1) * F.normalize(z, dim=1)).sum(dim=1).mean()

    z1, z2 = (method.projector(encode(method.encoder, pixels[:, view])) for view in range(2))
    p1, p2 = method.predictor(z1), method.predictor(z2)
    return distance(p1, z2) / 2 + distance(p2, z1) / 2


@pytest.mark.parametrize("backbone", [None, TINY_RESNET], ids=["vit", "resnet"])
def test_the_loss_and_its_gradients_are_those_of_the_paper(backbone):
    method = build(SimSiam, backbone, **SMALL)
    pixels = random_batch(SimSiam, 6)["pixel_values"]
    losses = [method(pixel_values=pixels).loss, by_hand(method, pixels)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    gradients = []
    for loss in losses:
        method.zero_grad()
        loss.backward()
        gradients.append({name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-5)


def test_projections_get_no_gradient_as_targets():
    method = build(SimSiam, **SMALL)
    for parameter in method.predictor.parameters():
        torch.nn.init.zeros_(parameter)  # a prediction that does not depend on its projection
    torch.nn.init.ones_(method.predictor[-1].bias)
    method(pixel_values=random_batch(SimSiam, 6)["pixel_values"]).loss.backward()
    assert all(not parameter.grad.any() for parameter in method.projector.parameters())


def test_what_the_collapse_is_watched_on_are_the_projections():
    method = build(SimSiam, **SMALL)
    pixels = random_batch(SimSiam, 6)["pixel_values"]
    z = torch.stack([method.projector(encode(method.encoder, pixels[:, view])) for view in range(2)], dim=1)
    output = method(pixel_values=pixels)
    torch.testing.assert_close(output.embeddings, z.detach(), rtol=1e-4, atol=1e-4)
    assert not output.embeddings.requires_grad


def test_the_heads_are_the_papers():
    method = build(SimSiam)
    kinds = [type(layer).__name__ for layer in method.projector]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    width = method.feature_size
    assert [layer.out_features for layer in method.projector if hasattr(layer, "out_features")] == [width, width, 2048]
    assert not method.projector[-1].affine and all(method.projector[place].bias is None for place in (0, 3, 6))
    first, norm, _, last = method.predictor
    assert (first.out_features, norm.num_features, last.out_features) == (512, 512, 2048)
    assert first.bias is None and last.bias is not None
    two = build(SimSiam, **SMALL, projection_layers=2, hidden_dim=24).projector
    assert [layer.out_features for layer in two if hasattr(layer, "out_features")] == [24, 16]


def test_the_predictors_learning_rate_stays():
    method = build(SimSiam, **SMALL)
    settings = OptimSection(name="sgd", lr=0.05, weight_decay=1e-4)
    optimizer = build_optimizer(method, settings, method.constant_lr)
    rates = {}
    for step in (0, 50, 100):
        set_schedules(optimizer, settings, step, 100, 10, global_batch=512)
        of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        trained = [(name, p) for name, p in method.named_parameters() if p.requires_grad]
        rates[step] = {name.split(".")[0]: of[id(p)] for name, p in trained}
    assert all(found["predictor"] == pytest.approx(0.1) for found in rates.values())
    for module in ("encoder", "projector"):
        assert [rates[step][module] for step in rates] == pytest.approx([0.1, 0.05, 0.0])


def test_the_views_are_the_papers():
    (view,) = SimSiam.views
    assert (view.count, view.size, view.scale, view.interpolation) == (2, 224, (0.2, 1.0), "bilinear")
    assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.4, 0.1, 0.8)
    assert (view.grayscale, view.blur, view.blur_sigma, view.solarize) == (0.2, 0.5, (0.1, 2.0), 0.0)
    assert (view.horizontal_flip, view.vertical_flip) == (0.5, 0.0)


def test_the_settings_are_the_papers_and_checked():
    config = SimSiamConfig()
    assert (config.projection_dim, config.predictor_dim, config.projection_layers) == (2048, 512, 3)
    with pytest.raises(Exception, match="projection_layers is 0, expected 1 or more"):
        SimSiamConfig(projection_layers=0)


def test_contract():
    check_method(SimSiam, **SMALL)
