"""SupCon: its loss put together by hand, what labels change and what their absence, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.losses import nt_xent
from hfcontrast.methods.contract.arguments import needs_labels
from hfcontrast.methods.supcon import SupCon, SupConConfig
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

SMALL = {"projection_dim": 6, "hidden_dim": 10}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def by_hand(z, labels, temperature, form):
    """Equations 2 and 3, anchor by anchor; z is (B, V, D) of unit length."""
    classes = [int(label) for label in labels for _ in range(z.shape[1])]
    z = z.flatten(0, 1)
    losses = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        p = (z[others] @ z[i] / temperature).softmax(0)
        same = torch.tensor([classes[k] == classes[i] for k in others])
        if same.any():
            losses.append(-p[same].log().mean() if form == "out" else -p[same].mean().log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("form", ["out", "in"])
@pytest.mark.parametrize("head", ["mlp", "linear"])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_is_that_of_the_parts(head, form, normalize):
    method = build(SupCon, **SMALL, head=head, form=form, temperature=0.5, normalize_features=normalize)
    pixels, labels = random_batch(SupCon, 5)["pixel_values"], torch.tensor([3, 0, 3, 7, 3])
    features = encode(method.encoder, pixels.flatten(0, 1))
    features = F.normalize(features, dim=1) if normalize else features
    layers = list(method.projector)
    assert len(layers) == (3 if head == "mlp" else 1)
    if head == "mlp":
        features = (features @ layers[0].weight.T + layers[0].bias).relu()
    z = F.normalize(features @ layers[-1].weight.T + layers[-1].bias, dim=1).unflatten(0, (5, 2))
    output = method(pixel_values=pixels, labels=labels)
    torch.testing.assert_close(output.loss, by_hand(z, labels, 0.5, form), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.embeddings, z.detach(), rtol=1e-4, atol=1e-5)
    expected = (z[:, 0] * z[:, 1]).sum(-1).mean().detach()
    torch.testing.assert_close(output.metrics["positive_similarity"], expected, rtol=1e-4, atol=1e-5)


def test_in_a_batch_without_labels_it_is_nt_xent():
    method, labels = build(SupCon, **SMALL), torch.full((5,), -1)
    z = torch.randn(5, 3, 6)
    torch.testing.assert_close(method.objective({"z": z}, labels).loss, nt_xent(z, 0.1), rtol=1e-5, atol=1e-5)


def test_an_image_without_a_label_is_a_class_of_its_own():
    method = build(SupCon, **SMALL)
    z = F.normalize(torch.randn(5, 2, 6), dim=-1)
    found = method.objective({"z": z}, torch.tensor([4, -1, 4, -1, 0])).loss
    torch.testing.assert_close(found, by_hand(z, [4, 100, 4, 101, 0], 0.1, "out"), rtol=1e-4, atol=1e-5)


def test_labels_attract_different_images():
    method = build(SupCon, **SMALL)
    z = torch.randn(4, 1, 6, requires_grad=True)
    loss = method.objective({"z": F.normalize(z, dim=-1)}, torch.tensor([1, 1, 2, -1])).loss  # one view is enough
    (gradient,) = torch.autograd.grad(loss, z)
    moved = F.normalize(z - 0.01 * gradient, dim=-1)
    before = F.normalize(z, dim=-1)
    assert (moved[0] * moved[1]).sum() > (before[0] * before[1]).sum()


def test_the_loss_can_be_scaled_by_the_temperature_as_in_the_authors_code():
    batch = random_batch(SupCon, 4)
    plain, scaled = (build(SupCon, **SMALL, scale_by_temperature=scale)(**batch).loss for scale in (False, True))
    torch.testing.assert_close(scaled, 0.1 * plain)


def test_labels_are_needed():
    assert needs_labels(SupCon)


def test_the_settings_are_the_papers():
    config = SupConConfig()
    assert (config.hidden_dim, config.projection_dim, config.head) == (2048, 128, "mlp")
    assert (config.temperature, config.form, config.normalize_features) == (0.1, "out", True)
    (view,) = SupCon.views
    assert (view.count, view.size, view.scale) == (2, 224, (0.08, 1.0))
    # SimAugment at strength 0.5.
    assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.4, 0.1, 0.8)
    assert (view.grayscale, view.blur, view.blur_sigma, view.horizontal_flip) == (0.2, 0.5, (0.1, 2.0), 0.5)
    with pytest.raises(Exception, match="temperature is 0, expected a number above 0"):
        SupConConfig(temperature=0)


@pytest.mark.parametrize(
    "backbone, options",
    [(TINY_BACKBONE, {}), (TINY_RESNET, {"head": "linear", "form": "in", "scale_by_temperature": True})],
    ids=["vit", "resnet, form in"],
)
def test_contract(backbone, options):
    check_method(SupCon, backbone, **{**SMALL, "projection_dim": 16, **options})
