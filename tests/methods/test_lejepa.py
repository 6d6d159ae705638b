"""LeJEPA: its loss put together by hand from the paper's two algorithms, its directions, and the paper's settings."""

import pytest
import torch

from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.lejepa import LeJEPA, LeJEPAConfig
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

SMALL = {"projection_dim": 8, "hidden_dim": 16, "num_slices": 24}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def by_hand(z, global_views, directions, trade_off):
    """Algorithms 1 and 2 for embeddings (B, V, D): views one after the other, waves as complex numbers."""
    centers = z[:, :global_views].mean(1)
    similarity = torch.stack([(centers - z[:, v]).square().mean() for v in range(z.shape[1])]).mean()
    t = torch.linspace(-5, 5, 17)
    normal = torch.exp(-0.5 * t**2)
    statistics = []
    for view in z.unbind(dim=1):
        waves = (1j * (view @ directions).unsqueeze(2) * t).exp().mean(0)
        error = (waves - normal).abs().square() * normal
        statistics.append(torch.trapezoid(error, t, dim=1).mean() * len(z))
    return (1 - trade_off) * similarity + trade_off * torch.stack(statistics).mean()


@pytest.mark.parametrize("centers, trade_off", [("global", 0.05), ("all", 0.3), ("global", 1)])
def test_the_loss_and_its_gradient_are_those_of_the_paper(centers, trade_off):
    method = build(LeJEPA, **SMALL, centers=centers, trade_off=trade_off)
    start_step(method, Progress(3, 10))
    embeddings = method.embed(**{k: v for k, v in random_batch(LeJEPA, 6).items() if k.endswith("pixel_values")})
    assert {name: value.shape[1] for name, value in embeddings.items()} == {"global": 2, "local": 8}
    embeddings = {name: value.detach().requires_grad_() for name, value in embeddings.items()}
    output = method.objective(embeddings)
    found = torch.autograd.grad(output.loss, list(embeddings.values()))
    z = method.projector(torch.cat(list(embeddings.values()), dim=1))
    expected = by_hand(z, 2 if centers == "global" else 10, method.directions(z), trade_off)
    torch.testing.assert_close(output.loss, expected)
    # No gradient is stopped: the centers move too.
    for mine, reference in zip(found, torch.autograd.grad(expected, list(embeddings.values()))):
        torch.testing.assert_close(mine, reference, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(output.embeddings, z.detach())
    both = (1 - trade_off) * output.metrics["prediction"] + trade_off * output.metrics["sigreg"]
    torch.testing.assert_close(both, output.loss.detach())


def test_global_views_are_enough():
    method = build(LeJEPA, **SMALL)
    assert torch.isfinite(method(pixel_values=random_batch(LeJEPA, 4)["pixel_values"]).loss)


def test_directions_are_new_unit_vectors_in_every_step():
    method = build(LeJEPA, **SMALL)
    drawn = []
    for progress in (Progress(0, 10), Progress(1, 10), Progress(0, 10, seed=1), Progress(0, 20)):
        start_step(method, progress)
        drawn.append(method.directions(torch.zeros(1, 8)))
    assert drawn[0].shape == (8, 24)
    torch.testing.assert_close(drawn[0].norm(dim=0), torch.ones(24))
    assert not torch.allclose(drawn[0], drawn[1]) and not torch.allclose(drawn[0], drawn[2])
    assert torch.equal(drawn[0], drawn[3])  # a function of seed and step


def test_directions_are_the_same_on_every_device():
    """Embeddings on a device without memory: what is drawn cannot come from it."""
    method = build(LeJEPA, **SMALL)
    assert method.directions(torch.zeros(1, 8, device="meta")).is_meta  # moved there, with no generator of its own


def test_there_is_no_teacher_and_no_state():
    method = build(LeJEPA, **SMALL)
    assert not method.teachers and method.export_encoder() is method.encoder
    names = {name.split(".")[0] for name, _ in method.named_parameters()}
    assert names == {"encoder", "projector"}
    trained = {name for name, p in method.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in method.named_parameters() if not name.endswith("mask_token")}


def test_collapsed_embeddings_cost_more_than_spread_ones():
    method = build(LeJEPA, **SMALL)
    method.projector = torch.nn.Identity()
    spread, point = torch.randn(64, 1, 32).expand(-1, 2, -1), torch.zeros(64, 2, 32)
    losses = [method.objective({"global": features}).loss for features in (spread, point)]
    assert losses[1] > 10 * losses[0] > 0


def test_the_settings_are_the_papers():
    config = LeJEPAConfig()
    # Section 6.1 recommends lambda 0.05, 17 points on [-5, 5], 1024 slices, and 2 global and 8 local views.
    assert (config.trade_off, config.num_slices) == (0.05, 1024)
    assert (config.integration_points, config.integration_reach) == (17, 5.0)
    method = build(LeJEPA)
    widths = [layer.out_features for layer in method.projector if isinstance(layer, torch.nn.Linear)]
    assert widths == [2048, 2048, 512]
    whole, local = LeJEPA.views
    assert (whole.count, whole.size, whole.scale) == (2, 224, (0.3, 1.0))
    assert (local.key, local.count, local.size, local.scale) == ("local_pixel_values", 8, 98, (0.05, 0.3))
    for view in LeJEPA.views:
        assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.2, 0.1, 0.8)
        assert (view.grayscale, view.blur, view.solarize, view.horizontal_flip) == (0.2, 0.5, 0.2, 0.5)


@pytest.mark.parametrize("name, value", [("trade_off", 1.5), ("integration_points", 16), ("integration_reach", 0)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        LeJEPAConfig(**{name: value})


@pytest.mark.parametrize("backbone, centers", [(TINY_BACKBONE, "global"), (TINY_RESNET, "all")], ids=["vit", "resnet"])
def test_contract(backbone, centers):
    check_method(LeJEPA, backbone, **SMALL, centers=centers)
