"""CMC: its losses written out pair by pair, what its banks and constants do, and the paper's settings."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import ColorViewsModel, encode
from hfcontrast.methods.base import Progress
from hfcontrast.methods.cmc import CMC, CMCConfig
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.nn import sample_others
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
SMALL = {"projection_dim": 6, "negatives": 5, "temperature": 0.5}
GRAPHS = [("lab", "full", 0), ("rgb", "full", 0), ("rgb", "core", 1)]


def directions(space, graph, core):
    views = {"lab": 2, "rgb": 3}[space]
    pairs = [(i, j) for j in range(views) for i in range(views) if i != j]
    return [pair for pair in pairs if graph == "full" or core in pair]


def projections(method, pixels):
    """The unit vectors of each view, (V, B, D), from the encoders one by one."""
    views = method.encoder.views(pixels[:, 0])
    features = [encode(encoder, view) for encoder, view in zip(method.encoder.encoders, views)]
    return [F.normalize(project(h), dim=1) for project, h in zip(method.projectors, features)]


def scores(method, z, index, source, target):
    """exp(s / t) of a view's embeddings with another view's bank: (B, 1 + K), the right row first."""
    rows, key = method.banks[target].rows, (method.progress.seed, method.progress.step, 0)
    chosen = torch.cat([index[:, None], sample_others(index, 5, len(rows), *key)], dim=1)
    return torch.stack(
        [torch.stack([(z[source][b] @ rows[i] / 0.5).exp() for i in chosen[b]]) for b in range(len(index))]
    )


def nce_by_hand(scores, constant, images):
    """Wu et al., eq. 4 to 7, with the noise 1 / N."""
    probabilities, noise = scores / constant, (scores.shape[1] - 1) / images
    posterior = probabilities / (probabilities + noise)
    return -(posterior[:, 0].log() + (1 - posterior[:, 1:]).log().sum(dim=1)).mean()


def step(method, batches, number):
    """One optimizer step as the training does it, without an optimizer."""
    progress = Progress(number, 10, 5)
    start_step(method, progress)
    outputs = [method(**batch) for batch in batches]
    method.after_step(outputs, progress)
    return outputs


@pytest.mark.parametrize("space, graph, core", GRAPHS)
@pytest.mark.parametrize("loss", ["nce", "softmax"])
def test_the_loss_with_banks_is_that_of_every_pair_in_both_directions(loss, space, graph, core):
    method = build(CMC, color_space=space, graph=graph, core_view=core, loss=loss, **SMALL)
    batch = random_batch(CMC, 4)
    start_step(method, Progress(3, 10, seed=8))
    z, expected = projections(method, batch["pixel_values"]), 0
    for source, target in directions(space, graph, core):
        similar = scores(method, z, batch["index"], source, target)
        if loss == "nce":
            expected += nce_by_hand(similar, similar.mean() * 64, 64)
        else:
            expected += -(similar[:, 0] / similar.sum(dim=1)).log().mean()
    output = method(**batch)
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.embeddings, torch.stack(z, dim=1), rtol=1e-4, atol=1e-5)
    matrices = torch.stack([z[i] @ z[j].T for i, j in directions(space, graph, core)])
    same = torch.eye(4, dtype=torch.bool).expand_as(matrices)
    for name, chosen in (("positive_similarity", same), ("negative_similarity", ~same)):
        torch.testing.assert_close(output.metrics[name], matrices[chosen].mean().detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("space, graph, core", GRAPHS)
def test_the_loss_within_the_batch_is_that_of_every_pair_in_both_directions(space, graph, core):
    method = build(CMC, color_space=space, graph=graph, core_view=core, **{**SMALL, "negatives": "batch"})
    batch = random_batch(CMC, 4)
    z, expected = projections(method, batch["pixel_values"]), 0
    for source, target in directions(space, graph, core):
        similar = (z[source] @ z[target].T / 0.5).exp()
        expected += -(similar.diagonal() / similar.sum(dim=1)).log().mean()
    torch.testing.assert_close(method(**batch).loss, expected, rtol=1e-4, atol=1e-5)
    assert not [name for name, _ in method.named_buffers() if "bank" in name]
    method.after_step([method(**batch)], Progress(0, 10))


def test_an_image_is_never_a_negative_of_itself():
    method = build(CMC, num_images=2, loss="softmax", **SMALL)
    batch = random_batch(CMC, 2)
    z, rows, expected = projections(method, batch["pixel_values"]), [bank.rows for bank in method.banks], 0
    for source, target in ((0, 1), (1, 0)):  # all five negatives of an image are the other one
        right = (z[source] @ rows[target].T / 0.5).exp()
        wrong = right.flip(1).diagonal()
        expected += -(right.diagonal() / (right.diagonal() + 5 * wrong)).log().mean()
    torch.testing.assert_close(method(**batch).loss, expected, rtol=1e-4, atol=1e-5)


def test_the_banks_follow_the_images_of_their_view():
    method = build(CMC, **SMALL)
    batch = random_batch(CMC, 6)
    pieces = [{name: value[part] for name, value in batch.items()} for part in (slice(0, 4), slice(4, 6))]
    before = [bank.rows.clone() for bank in method.banks]
    step(method, pieces, 0)
    z = projections(method, batch["pixel_values"])
    for bank, rows, embeddings in zip(method.banks, before, z):
        expected = rows.clone()
        expected[:6] = F.normalize(0.5 * rows[:6] + 0.5 * embeddings, dim=1)
        torch.testing.assert_close(bank.rows, expected, rtol=1e-4, atol=1e-5)


def test_the_constants_are_those_of_the_first_batch():
    method = build(CMC, **SMALL)
    batch = random_batch(CMC, 4)
    start_step(method, Progress(0, 10, 5))
    z = projections(method, batch["pixel_values"])
    first = torch.stack([(scores(method, z, batch["index"], i, j).mean() * 64).log() for i, j in ((1, 0), (0, 1))])
    step(method, [batch], 0)
    torch.testing.assert_close(method.log_partition, first, rtol=1e-4, atol=1e-5)
    kept = method.log_partition.clone()
    later = random_batch(CMC, 8)["pixel_values"][4:]
    (output,) = step(method, [{"pixel_values": later, "index": batch["index"] + 4}], 1)
    assert torch.equal(method.log_partition, kept)
    assert torch.equal(output.state["log_partition"], kept)


def test_the_encoder_is_one_of_all_views():
    method = build(CMC, TINY_RESNET, color_space="rgb", **SMALL)
    encoder = method.export_encoder()
    assert type(encoder) is ColorViewsModel and encoder is method.encoder
    assert [e.config.num_channels for e in encoder.encoders] == [1, 1, 1] and method.feature_size == 48
    assert encoder.config.image_mean == [0.485, 0.456, 0.406] and encoder.config.image_std == [0.229, 0.224, 0.225]
    assert method.config.backbone_config.color_space == "rgb"
    firsts = [e.embedder.embedder.convolution.weight for e in encoder.encoders]
    assert not torch.equal(firsts[0], firsts[1])  # each with weights of its own


def test_the_views_and_settings_are_the_authors():
    (view,) = CMC.views
    assert (view.count, view.size, view.scale, view.interpolation) == (1, 224, (0.08, 1.0), "bilinear")
    assert (view.horizontal_flip, view.vertical_flip, view.jitter, view.grayscale, view.blur) == (0.5, 0, 0, 0, 0)
    config = CMCConfig()
    assert (config.color_space, config.loss, config.projection_dim) == ("lab", "nce", 128)
    assert (config.negatives, config.temperature, config.bank_momentum) == (16384, 0.07, 0.5)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"temperature": 0}, "temperature is 0, expected a number above 0"),
        ({"bank_momentum": 1.1}, "bank_momentum is 1.1, expected a number between 0 and 1"),
        ({"negatives": 0}, "negatives is 0, expected a number above 0, or batch"),
        ({"core_view": 2}, "core_view is 2, expected a number from 0 to 1"),
        ({"channel_groups": [[0]]}, "expected two lists or more of the channels"),
    ],
)
def test_settings_out_of_range_are_refused(options, words):
    with pytest.raises(Exception, match=words):
        CMCConfig(**options)


def test_what_the_data_has_to_tell_is_asked_for():
    with pytest.raises(ValueError, match="CMC needs num_images: they are filled in by a training"):
        build(CMC, num_images=None, **SMALL)
    with pytest.raises(ValueError, match="CMC needs image_mean, image_std: they are"):
        build(CMC, image_mean=None, image_std=None, **SMALL)
    assert build(CMC, num_images=None, negatives="batch").banks is None


def test_one_crop_is_taken():
    pixels = random_batch(CMC, 2)["pixel_values"]
    with pytest.raises(ValueError, match="CMC takes one crop of an image, whose color channels are the views; got 2"):
        build(CMC, **SMALL).embed(torch.cat([pixels, pixels], dim=1))


def test_half_precision_leaves_the_constants_finite():
    method = build(CMC, **{**SMALL, "temperature": 0.02})  # exp(1 / t) is beyond half precision
    batch = random_batch(CMC, 4)
    with torch.autocast("cpu", torch.bfloat16):
        (output,) = step(method, [batch], 0)
    assert output.loss.dtype == torch.float32 and torch.isfinite(output.loss)
    assert torch.isfinite(method.log_partition).all() and (method.log_partition.abs() < math.log(64) + 50).all()


@pytest.mark.parametrize(
    "backbone, options",
    [(TINY_RESNET, {}), (TINY_BACKBONE, {"negatives": "batch", "color_space": "rgb", "graph": "core"})],
    ids=["resnet, banks", "vit, batch"],
)
def test_contract(backbone, options):
    check_method(CMC, backbone, projection_dim=16, **{"negatives": 32, **options})
