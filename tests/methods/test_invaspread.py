"""InvaSpread: its loss from the paper's and the authors' formulas, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.methods.invaspread import InvaSpread, InvaSpreadConfig
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def paper(f, g, temperature):
    """Equations 2, 4 and 6."""
    of_views = (g @ f.T / temperature).softmax(1)
    of_images = (f @ f.T / temperature).softmax(1)
    others = ~torch.eye(len(f), dtype=torch.bool)
    return -(of_views.diagonal().log().sum() + (1 - of_images[others]).log().sum()) / len(f)


def authors(f, g, temperature):
    """The authors' code: exponentials without the diagonal, each row divided by its sum."""
    z, count = torch.cat([f, g]), len(f)
    exponentials = (z @ z.T / temperature).exp() * (1 - torch.eye(2 * count))
    p = exponentials / exponentials.sum(1, keepdim=True)
    partner = p[torch.arange(2 * count), torch.arange(2 * count).roll(count)]
    return -(partner.log().sum() + (1 - p).log().sum() - (1 - partner).log().sum()) / (2 * count)


@pytest.mark.parametrize("symmetric, by_hand", [(False, paper), (True, authors)])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_loss_is_that_of_the_parts(symmetric, by_hand, temperature):
    method = build(InvaSpread, projection_dim=6, temperature=temperature, symmetric=symmetric)
    torch.nn.init.normal_(method.head.weight)
    pixels = random_batch(InvaSpread, 5)["pixel_values"]
    features = encode(method.encoder, pixels.flatten(0, 1))
    z = F.normalize(features @ method.head.weight.T + method.head.bias, dim=1).unflatten(0, (5, 2))
    output = method(pixel_values=pixels)
    expected = by_hand(z[:, 0].double(), z[:, 1].double(), temperature)
    torch.testing.assert_close(output.loss.double(), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(output.embeddings, z.detach(), rtol=1e-4, atol=1e-5)
    expected = (z[:, 0] * z[:, 1]).sum(-1).mean()
    torch.testing.assert_close(output.metrics["positive_similarity"], expected.detach(), rtol=1e-4, atol=1e-5)


def test_other_than_two_views_are_refused():
    method = build(InvaSpread)
    with pytest.raises(ValueError, match="two views of an image, got 3"):
        method(pixel_values=torch.zeros(4, 3, 3, 32, 32))


def test_settings_out_of_range_are_refused():
    with pytest.raises(Exception, match="temperature is 0, expected a number above 0"):
        InvaSpreadConfig(temperature=0)


def test_the_settings_are_the_papers():
    config, (view,) = InvaSpreadConfig(), InvaSpread.views
    assert (config.projection_dim, config.temperature) == (128, 0.1)
    assert (view.count, view.size, view.scale, view.horizontal_flip) == (2, 32, (0.2, 1.0), 0.5)
    assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.4, 0.4, 1.0)
    assert (view.grayscale, view.blur, view.solarize) == (0.2, 0, 0)


@pytest.mark.parametrize(
    "backbone, symmetric", [(TINY_BACKBONE, False), (TINY_RESNET, True)], ids=["vit", "resnet, symmetric"]
)
def test_contract(backbone, symmetric):
    check_method(InvaSpread, backbone, projection_dim=16, symmetric=symmetric)
