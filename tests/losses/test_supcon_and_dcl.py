"""SupCon and DCL against the papers' formulas, written out pair by pair."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import decoupled, nt_xent, supcon

SHAPES = [(2, 2, 3), (5, 2, 8), (4, 3, 5), (2, 4, 2)]


def supcon_reference(embeddings, labels, temperature, form):
    """Equations 2 and 3 for every anchor, averaged over the anchors with a positive."""
    z = F.normalize(embeddings.flatten(0, 1), dim=-1)
    labels = labels.repeat_interleave(embeddings.shape[1]).tolist()
    losses = []
    for i in range(len(z)):
        others = [k for k in range(len(z)) if k != i]
        log_p = dict(zip(others, torch.stack([z[i] @ z[k] / temperature for k in others]).log_softmax(0)))
        positives = torch.stack([log_p[k] for k in others if labels[k] == labels[i]] or [z.new_zeros(())])
        if any(labels[k] == labels[i] for k in others):
            losses.append(-positives.mean() if form == "out" else -positives.exp().mean().log())
    return torch.stack(losses).mean()


def decoupled_reference(embeddings, temperature, sigma):
    z = F.normalize(embeddings, dim=-1)
    images, views, _ = z.shape
    losses = []
    for v in range(views):
        for w in range(views):
            if v == w:
                continue
            agreement = torch.stack([z[b, v] @ z[b, w] for b in range(images)])
            for b in range(images):
                negatives = [z[b, v] @ z[c, u] / temperature for c in range(images) if c != b for u in range(views)]
                weight = 1.0
                if sigma is not None:
                    weight = 2 - (agreement[b] / sigma).exp() / (agreement / sigma).exp().mean()
                losses.append(torch.stack(negatives).logsumexp(0) - weight * agreement[b] / temperature)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("form", ["out", "in"])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 2])
@pytest.mark.parametrize("shape", [*SHAPES, (6, 1, 4)])
def test_supcon_is_the_formula(shape, temperature, form, tile, agree):
    labels = torch.tensor([7, -3, 7, 7, 0, -3])[: shape[0]]
    agree(
        lambda z: supcon(z, labels, temperature, form, tile=tile),
        lambda z: supcon_reference(z, labels, temperature, form),
        torch.randn(shape),
        atol=1e-4,
    )


@pytest.mark.parametrize("tile", [None, 3])
@pytest.mark.parametrize("sigma", [None, 0.5])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_decoupled_is_the_formula(shape, temperature, sigma, tile, agree):
    agree(
        lambda z: decoupled(z, temperature, sigma, tile=tile),
        lambda z: decoupled_reference(z, temperature, sigma),
        torch.randn(shape),
        atol=1e-3,
    )


def test_values_computed_by_hand():
    # Two images at right angles, two equal views each, t = 1. SupCon with a label each is NT-Xent: log(1 + 2 / e). With
    # one label p is e / (e + 2) for one positive and 1 / (e + 2) for two. DCL: log(1 + 1) - 1.
    embeddings = torch.tensor([[[3.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 5.0]]])
    own, one = torch.tensor([4, 9]), torch.tensor([4, 4])
    for form in ("out", "in"):
        assert supcon(embeddings, own, 1, form).item() == pytest.approx(math.log(1 + 2 / math.e), abs=1e-6)
    assert supcon(embeddings, one, 1, "out").item() == pytest.approx(math.log(math.e + 2) - 1 / 3, abs=1e-6)
    assert supcon(embeddings, one, 1, "in").item() == pytest.approx(math.log(3), abs=1e-6)
    assert decoupled(embeddings, 1).item() == pytest.approx(math.log(2) - 1, abs=1e-6)
    assert decoupled(embeddings, 1, 0.5).item() == pytest.approx(math.log(2) - 1, abs=1e-6)  # equal pairs: weights of 1


def test_a_label_for_each_image_is_nt_xent():
    embeddings = torch.randn(6, 3, 8)
    torch.testing.assert_close(supcon(embeddings, torch.arange(6), 0.2), nt_xent(embeddings, 0.2))


def test_in_is_at_most_out():
    embeddings, labels = torch.randn(9, 2, 8), torch.arange(9) % 3
    assert supcon(embeddings, labels, 0.1, "in") < supcon(embeddings, labels, 0.1, "out")


@pytest.mark.parametrize("form", ["out", "in"])
@pytest.mark.parametrize("tile", [None, 2])
@pytest.mark.parametrize("images", [1, 5])
def test_anchors_without_a_positive_are_left_out(images, form, tile):
    embeddings = torch.randn(images, 1, 4, requires_grad=True)
    loss = supcon(embeddings, torch.arange(images), 0.1, form, tile=tile)
    loss.backward()
    assert loss.item() == 0 and torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_zero_and_identical_embeddings():
    for embeddings in (torch.ones(3, 2, 4), torch.zeros(3, 2, 4)):
        embeddings.requires_grad_()
        losses = supcon(embeddings, torch.tensor([0, 0, 1]), 0.1), decoupled(embeddings, 0.1)
        assert losses[0].item() == pytest.approx(math.log(5), abs=1e-5)
        assert losses[1].item() == pytest.approx(math.log(4), abs=1e-5)
        sum(losses).backward()
        assert torch.isfinite(embeddings.grad).all()


def test_what_cannot_be_computed_is_refused():
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        decoupled(torch.randn(1, 2, 4), 0.1)
    with pytest.raises(ValueError, match="DCL .* at least 2, got 1"):
        decoupled(torch.randn(3, 1, 4), 0.1)
    with pytest.raises(ValueError, match=r"\(3, 2, 4\) and \(6,\)"):
        supcon(torch.randn(3, 2, 4), torch.arange(6), 0.1)
    with pytest.raises(ValueError, match="form is 'mean'"):
        supcon(torch.randn(3, 2, 4), torch.arange(3), 0.1, "mean")
