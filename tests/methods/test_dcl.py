"""DCL and DCLW: their losses by hand, through SimCLR's encoder and head, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.methods.dcl import DCL, DCLConfig
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def by_hand(z, temperature, sigma=None):
    """The paper's loss, one anchor at a time; z is (B, 2, D). No pair is in its own denominator."""
    z = F.normalize(z, dim=-1)
    similarities = (z[:, 0] * z[:, 1]).sum(-1)
    weights = torch.ones(len(z))
    if sigma is not None:
        weights = 2 - (similarities / sigma).exp() / (similarities / sigma).exp().mean()
    terms = []
    for image in range(len(z)):
        others = torch.cat([z[:image], z[image + 1 :]]).flatten(0, 1)
        for anchor in z[image]:
            repulsion = (others @ anchor / temperature).exp().sum().log()
            terms.append(-weights[image] * similarities[image] / temperature + repulsion)
    return torch.stack(terms).mean()


@pytest.mark.parametrize("sigma", [None, 0.5])
@pytest.mark.parametrize("head", ["mlp", "identity"])
def test_the_loss_and_its_gradients_are_those_of_the_paper(sigma, head):
    method = build(DCL, projection_dim=6, temperature=0.2, sigma=sigma, head=head)
    pixels = random_batch(DCL, 5)["pixel_values"]
    h = encode(method.encoder, pixels.flatten(0, 1))
    projections = (method.projector(h) if head == "mlp" else h).unflatten(0, (5, 2))
    losses = [method(pixel_values=pixels).loss, by_hand(projections, 0.2, sigma)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    gradients = []
    for loss in losses:
        method.zero_grad()
        loss.backward()
        gradients.append({name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None})
    largest = max(float(gradient.abs().max()) for gradient in gradients[1].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-4 * largest)


def test_it_is_simclr_with_another_loss():
    dcl, simclr = build(DCL, projection_dim=6), build(SimCLR, projection_dim=6)
    assert dcl.state_dict().keys() == simclr.state_dict().keys() and DCL.views == SimCLR.views
    batch = random_batch(DCL, 5)
    first, second = dcl(**batch), simclr(**batch)
    torch.testing.assert_close(first.embeddings, second.embeddings)
    torch.testing.assert_close(first.metrics, second.metrics)
    assert first.loss < second.loss  # the positive pair is missing in the denominator


def test_the_settings_are_the_papers_and_checked():
    config = DCLConfig()
    assert (config.temperature, config.projection_dim, config.sigma) == (0.1, 128, None)
    for name in ("sigma", "temperature"):
        with pytest.raises(Exception, match=f"{name} is 0, expected a number above 0"):
            DCLConfig(**{name: 0})


@pytest.mark.parametrize(
    "backbone, sigma", [(TINY_BACKBONE, 0.5), (TINY_RESNET, None)], ids=["vit, weighted", "resnet"]
)
def test_contract(backbone, sigma):
    check_method(DCL, backbone, projection_dim=16, sigma=sigma)


@pytest.mark.parametrize("method_class", [SimCLR, DCL])
def test_a_single_view_is_refused(method_class):
    with pytest.raises(ValueError, match="needs at least 2, got 1"):
        build(method_class, TINY_RESNET)(torch.zeros(4, 1, 3, 32, 32))
