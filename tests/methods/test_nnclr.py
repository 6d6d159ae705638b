"""NNCLR: its loss by hand, what its queue holds and when, that no image is its own neighbor, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.methods.base import Progress
from hfcontrast.methods.nnclr import NNCLR, NNCLRConfig, nearest
from hfcontrast.testing import build, check_method, random_batch

SMALL = {"projection_dim": 8, "hidden_dim": 16, "predictor_dim": 12, "queue_size": 20}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def heads(method, pixels):
    """Projections and predictions of both views, each view in a pass of its own."""
    z = [method.projector(encode(method.encoder, pixels[:, view])) for view in range(2)]
    return z, [method.predictor(view) for view in z]


def by_hand(method, pixels, both=False):
    """Algorithm 1, one image at a time; with ``both`` also section 3.2's softmax over the neighbors."""
    (z1, z2), (p1, p2) = heads(method, pixels)
    terms = []
    for z, p in ((z1, p2), (z2, p1)):
        p = F.normalize(p, dim=1)
        found = []
        for query in F.normalize(z.detach(), dim=1):
            similarities = [float(query @ row) for row in method.queue.rows]
            found.append(method.queue.rows[similarities.index(max(similarities))])
        for i in range(len(p)):
            own = (found[i] @ p[i] / 0.1).exp()
            terms.append(-torch.log(own / sum((found[i] @ other / 0.1).exp() for other in p)))
            if both:
                terms.append(-torch.log(own / sum((other @ p[i] / 0.1).exp() for other in found)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("both", [False, True])
def test_the_loss_and_its_gradients_are_those_of_the_paper(both):
    method = build(NNCLR, **SMALL, both_softmaxes=both)
    pixels = random_batch(NNCLR, 5)["pixel_values"]
    losses = [method(pixel_values=pixels).loss, by_hand(method, pixels, both)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    gradients = []
    for loss in losses:
        method.zero_grad()
        loss.backward()
        gradients.append({name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients[1].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-4 * largest)


def test_the_nearest_is_found_for_every_size():
    rows = F.normalize(torch.ones(30, 6) + 0.05 * torch.randn(30, 6), dim=1)  # close together: too close for bf16
    places = torch.randint(30, (1500,))
    queries = 5 * rows[places]
    assert torch.equal(nearest(queries, rows), rows[places])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(nearest(queries, rows), rows[places])


def test_the_first_views_projections_enter_the_queue_after_the_step():
    method = build(NNCLR, **SMALL)
    batches = [random_batch(NNCLR, 4)["pixel_values"], -random_batch(NNCLR, 4)["pixel_values"]]
    start = method.queue.rows.clone()
    outputs = [method(pixel_values=pixels) for pixels in batches]  # two micro-batches of one step
    assert torch.equal(method.queue.rows, start)
    expected = torch.cat([F.normalize(heads(method, pixels)[0][0], dim=1) for pixels in batches]).detach()
    method.after_step(outputs, Progress(0, 10))
    torch.testing.assert_close(method.queue.rows[:8], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(method.queue.rows[8:], start[8:]) and method.queue.filled == 8


def test_an_image_is_its_own_neighbor_only_when_it_comes_again():
    method = build(NNCLR, **SMALL)
    pixels = random_batch(NNCLR, 4)["pixel_values"]
    pixels[:, 1] = pixels[:, 0]
    output = method(pixel_values=pixels)
    assert output.metrics["positive_similarity"] > 0.999 > output.metrics["neighbor_similarity"] + 0.01
    method.after_step([output], Progress(0, 10))
    assert method(pixel_values=pixels).metrics["neighbor_similarity"] > 0.999


def test_batch_statistics_are_those_of_one_view():
    method = build(NNCLR, TINY_RESNET, **SMALL)
    pixels = random_batch(NNCLR, 5)["pixel_values"]
    pixels[:, 1] = 3 * pixels[:, 1] + 1
    alone = torch.stack([encode(method.encoder, pixels[:, view]) for view in range(2)], dim=1)
    torch.testing.assert_close(method.embed(pixels)["h"], alone)


def test_the_heads_are_the_papers():
    method = build(NNCLR, queue_size=4)
    kinds = [type(layer).__name__ for layer in method.projector]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert [layer.out_features for layer in method.projector if hasattr(layer, "out_features")] == [2048, 2048, 256]
    assert [type(layer).__name__ for layer in method.predictor] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [layer.out_features for layer in method.predictor if hasattr(layer, "out_features")] == [4096, 256]


def test_the_settings_are_the_papers_and_checked():
    config = NNCLRConfig()
    assert (config.queue_size, config.temperature, config.projection_dim) == (98304, 0.1, 256)
    with pytest.raises(Exception, match="temperature is 0, expected a number above 0"):
        NNCLRConfig(temperature=0)
    with pytest.raises(Exception, match="queue_size is 0, expected 1 or more"):
        NNCLRConfig(queue_size=0)


def test_contract():
    check_method(NNCLR, **SMALL)
