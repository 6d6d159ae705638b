"""Metric learning: which pairs, triplets and N-pairs a batch gives, and the papers' settings."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.arguments import needs_labels
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.metric_learning import MetricLearning, MetricLearningConfig, n_pairs_by_label
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

SMALL = {"embedding_dim": 6}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}
LABELS = torch.tensor([2, 0, 2, -1, 1, -1])


def vectors(z):
    """The vectors of all views with their classes, -1 made different."""
    classes = [int(label) if label >= 0 else 10 + i for i, label in enumerate(LABELS)]
    return [(z[i, v], classes[i]) for i in range(len(z)) for v in range(z.shape[1])]


def pairs_by_hand(z, margin):
    found = vectors(z)
    losses = []
    for i, (x, a) in enumerate(found):
        for y, b in found[:i]:
            d = (x - y).norm()
            losses.append(d**2 / 2 if a == b else (margin - d).clamp(min=0) ** 2 / 2)
    return torch.stack(losses).mean()


def triplets_by_hand(z, hinge, mining, power):
    found = vectors(z)
    losses = []
    for i, (x, a) in enumerate(found):
        positives = [(x - y).norm() ** power for j, (y, b) in enumerate(found) if b == a and j != i]
        negatives = torch.stack([(x - y).norm() ** power for y, b in found if b != a])
        if mining == "hard":
            losses += [hinge(max(positives) - negatives.min())] if positives else []
        elif mining == "semi-hard":
            for p in positives:
                beyond = negatives[negatives > p]
                losses.append(hinge(p - (beyond.min() if len(beyond) else negatives.max())))
        else:
            losses += [loss for p in positives for loss in hinge(p - negatives) if loss > 0]
    return torch.stack(losses).mean()


def embedded(views=2, **options):
    method = build(MetricLearning, **SMALL, **options)
    z = torch.randn(6, views, 6)
    return method, F.normalize(z, dim=-1) if method.normalize else z


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("margin", [None, 0.7])
def test_pairs(margin, views):
    method, z = embedded(views, loss="contrastive", margin=margin)
    torch.testing.assert_close(method.objective({"z": z}, LABELS).loss, pairs_by_hand(z, margin or 1.0))


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("mining", ["all", "semi-hard", "hard"])
@pytest.mark.parametrize("margin, soft, squared", [(None, False, True), (0.7, False, False), (None, True, False)])
def test_triplets(mining, margin, soft, squared, views):
    method, z = embedded(views, loss="triplet", mining=mining, margin=margin, soft_margin=soft, squared=squared)
    expected = triplets_by_hand(
        z, F.softplus if soft else lambda x: (x + (margin or 0.2)).clamp(min=0), mining, 2 if squared else 1
    )
    torch.testing.assert_close(method.objective({"z": z}, LABELS).loss, expected)


def test_n_pairs_pair_different_images_where_there_are_any():
    method, z = embedded(loss="n_pair", penalty=0.3)
    # Label 2 has the images 0 and 2 and so two pairs; the others have one image each, and one pair of its views.
    first = [(z[0, 0], z[2, 0])] + [(z[i, 0], z[i, 1]) for i in (1, 3, 4, 5)]
    second = [(z[0, 1], z[2, 1])]
    losses = []
    for pairs in (first, second):
        for i, (anchor, positive) in enumerate(pairs):
            others = [anchor @ g - anchor @ positive for j, (_, g) in enumerate(pairs) if j != i]
            push = (1 + sum(other.exp() for other in others)).log() if others else torch.tensor(0.0)
            losses.append(push + 0.3 * (anchor @ anchor + positive @ positive) / 2)
    torch.testing.assert_close(method.objective({"z": z}, LABELS).loss, torch.stack(losses).mean())


def test_a_batch_without_pairs_costs_nothing():
    z = torch.randn(3, 4, requires_grad=True)
    loss = n_pairs_by_label(z, torch.tensor([4, 1, 2]))
    loss.backward()
    assert loss == 0 and torch.equal(z.grad, torch.zeros(3, 4))


def test_three_of_a_class_are_one_pair():
    z = torch.randn(5, 4)
    found = n_pairs_by_label(z, torch.tensor([1, 0, 1, 0, 1]))
    expected = F.cross_entropy(torch.stack([z[1], z[0]]) @ torch.stack([z[3], z[2]]).T, torch.arange(2))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("hidden", [None, 9])
@pytest.mark.parametrize("loss", ["triplet", "contrastive", "n_pair"])
def test_embeddings_are_normalized_where_the_papers_do(loss, hidden):
    method = build(MetricLearning, **SMALL, loss=loss, hidden_dim=hidden)
    batch = random_batch(MetricLearning, 4)
    z = encode(method.encoder, batch["pixel_values"].flatten(0, 1))
    for layer in method.head:
        z = layer(z)
    z = z if loss == "n_pair" else F.normalize(z, dim=-1)
    output = method(**batch)
    torch.testing.assert_close(output.embeddings, z.detach().unflatten(0, (4, 2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.metrics["length"], z.detach().norm(dim=-1).mean(), rtol=1e-4, atol=1e-5)
    assert output.metrics["positives"] == 3.0  # two images of every class, two views of each


def test_the_choice_of_normalization_can_be_made():
    assert build(MetricLearning, **SMALL, loss="n_pair", normalize=True).normalize
    assert not build(MetricLearning, **SMALL, normalize=False).normalize


@pytest.mark.parametrize("freeze", [True, False])
def test_batch_normalization_of_a_pretrained_encoder_can_stay_as_it_is(freeze):
    method = build(MetricLearning, TINY_RESNET, **SMALL, freeze_batch_norm=freeze)
    norms = [module for module in method.encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    method.train()
    start_step(method, Progress(0, 10))
    method(**random_batch(MetricLearning, 4))
    assert norms and method.encoder.training
    assert all(torch.equal(norm.running_mean, mean) == freeze for norm, mean in zip(norms, before))


def test_labels_are_needed():
    assert needs_labels(MetricLearning)


def test_the_settings_are_the_papers():
    config = MetricLearningConfig()
    assert (config.loss, config.mining, config.margin, config.squared) == ("triplet", "semi-hard", None, True)
    assert (config.embedding_dim, config.hidden_dim) == (128, None)
    (view,) = MetricLearning.views
    assert (view.count, view.size, view.scale, view.horizontal_flip) == (2, 224, (0.08, 1.0), 0.5)
    assert (view.brightness, view.grayscale, view.blur) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("name, value", [("margin", 0), ("penalty", -1)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        MetricLearningConfig(**{name: value})


@pytest.mark.parametrize(
    "backbone, options",
    [
        (TINY_BACKBONE, {}),
        (TINY_BACKBONE, {"mining": "hard", "soft_margin": True}),
        (TINY_BACKBONE, {"loss": "contrastive"}),
        (TINY_BACKBONE, {"loss": "n_pair"}),
        (TINY_RESNET, {"mining": "all", "hidden_dim": 16, "freeze_batch_norm": True}),
    ],
    ids=["semi-hard", "hard", "pairs", "n-pairs", "resnet"],
)
def test_contract(backbone, options):
    check_method(MetricLearning, backbone, **{"embedding_dim": 16, **options})
