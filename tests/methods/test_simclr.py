"""SimCLR: its forward pass put together by hand, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.testing import build, check_method, random_batch

TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def by_hand(projections, temperature):
    """NT-Xent as in the paper's algorithm 1: views 2k - 1 and 2k are a pair."""
    z = F.normalize(projections, dim=1)
    similarity = (z @ z.T / temperature).exp()
    similarity = similarity - torch.diag(similarity.diagonal())
    pair = torch.arange(len(z)) ^ 1
    return -(similarity[torch.arange(len(z)), pair] / similarity.sum(1)).log().mean()


@pytest.mark.parametrize("head", ["mlp", "linear", "identity"])
def test_the_loss_is_that_of_the_parts(head):
    method = build(SimCLR, projection_dim=6, hidden_dim=10, temperature=0.5, head=head)
    pixels = random_batch(SimCLR, 5)["pixel_values"]
    features = encode(method.encoder, pixels.flatten(0, 1))
    if head == "mlp":
        linear, norm, _, last, last_norm = method.projector
        hidden = F.batch_norm(features @ linear.weight.T, None, None, norm.weight, norm.bias, True)
        features = F.batch_norm(hidden.relu() @ last.weight.T, None, None, last_norm.weight, last_norm.bias, True)
    elif head == "linear":
        features = F.batch_norm(features @ method.projector[0].weight.T, None, None, None, None, True)
    output = method(pixel_values=pixels)
    torch.testing.assert_close(output.loss, by_hand(features, 0.5), rtol=1e-4, atol=1e-5)
    z = F.normalize(features, dim=1).unflatten(0, (5, 2))
    torch.testing.assert_close(output.embeddings, z.detach(), rtol=1e-4, atol=1e-5)
    expected = (z[:, 0] * z[:, 1]).sum(-1).mean()
    torch.testing.assert_close(output.metrics["positive_similarity"], expected.detach(), rtol=1e-4, atol=1e-5)


def test_the_head_is_as_wide_as_the_features_by_default():
    method = build(SimCLR)
    assert method.projector[0].out_features == method.feature_size and method.projector[3].out_features == 128
    assert build(SimCLR, hidden_dim=7).projector[0].out_features == 7


def test_the_views_are_the_papers():
    (view,) = SimCLR.views
    assert (view.count, view.size, view.scale, view.ratio) == (2, 224, (0.08, 1.0), (3 / 4, 4 / 3))
    # Appendix A with strength 1: ColorJitter(0.8, 0.8, 0.8, 0.2) at 0.8, gray at 0.2, blur of 0.1 to 2.0 at 0.5.
    assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.8, 0.8, 0.8, 0.2, 0.8)
    assert (view.grayscale, view.blur, view.blur_sigma, view.solarize) == (0.2, 0.5, (0.1, 2.0), 0.0)
    assert (view.horizontal_flip, view.vertical_flip, view.interpolation) == (0.5, 0.0, "bicubic")


def test_contract():
    check_method(SimCLR, projection_dim=16)
