"""Pairs, triplets and N-pairs against loops over the pairs and triplets of the papers."""

import math
from itertools import combinations

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import n_pair, pairwise_contrastive, triplet

LABELS = torch.tensor([3, 3, -1, 3, -1, 8, 8, 5])


def pairwise_reference(x, labels, margin):
    losses = []
    for i, j in combinations(range(len(x)), 2):
        distance = (x[i] - x[j]).square().sum().sqrt()
        same = labels[i] == labels[j]
        losses.append(distance**2 / 2 if same else (margin - distance).clamp(min=0) ** 2 / 2)
    return torch.stack(losses).mean()


def triplet_reference(x, labels, margin, mining, squared):
    def distance(i, j):
        square = (x[i] - x[j]).square().sum()
        return square if squared else square.sqrt()

    def loss(a, p, n):
        difference = distance(a, p) - distance(a, n)
        return F.softplus(difference) if margin is None else (difference + margin).clamp(min=0)

    losses = []
    for a in range(len(x)):
        positives = [p for p in range(len(x)) if p != a and labels[p] == labels[a]]
        negatives = [n for n in range(len(x)) if labels[n] != labels[a]]
        if not positives or not negatives:
            continue
        if mining == "hard":
            farthest, nearest = (
                max(positives, key=lambda p: distance(a, p)),
                min(negatives, key=lambda n: distance(a, n)),
            )
            losses.append(loss(a, farthest, nearest))
            continue
        for p in positives:
            if mining == "all":
                losses += [value for n in negatives if (value := loss(a, p, n)) > 0]
                continue
            farther = [n for n in negatives if distance(a, n) > distance(a, p)]
            if farther:
                losses.append(loss(a, p, min(farther, key=lambda n: distance(a, n))))
            else:
                losses.append(loss(a, p, max(negatives, key=lambda n: distance(a, n))))
    return torch.stack(losses).mean()


def n_pair_reference(f, g, penalty):
    losses = []
    for i in range(len(f)):
        others = [(f[i] @ g[j] - f[i] @ g[i]).exp() for j in range(len(f)) if j != i]
        losses.append(torch.log(1 + sum(others)) + penalty * (f[i] @ f[i] + g[i] @ g[i]) / 2)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("count, width", [(8, 4), (3, 2), (5, 9)])
@pytest.mark.parametrize("margin", [0.5, 1, 3])
def test_pairwise_contrastive_is_the_formula(count, width, margin, agree):
    agree(
        lambda x: pairwise_contrastive(x, LABELS[:count], margin),
        lambda x: pairwise_reference(x, LABELS[:count], margin),
        torch.randn(count, width),
    )


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("mining", ["all", "semi-hard", "hard"])
@pytest.mark.parametrize("margin", [0.2, 1, None])
@pytest.mark.parametrize("count, width", [(8, 4), (3, 2), (6, 9)])
def test_triplet_is_the_formula(count, width, margin, mining, squared, agree):
    agree(
        lambda x: triplet(x, LABELS[:count], margin, mining, squared),
        lambda x: triplet_reference(x, LABELS[:count], margin, mining, squared),
        torch.randn(count, width) / width**0.5,
    )


@pytest.mark.parametrize("shape", [(2, 3), (6, 4), (4, 9)])
@pytest.mark.parametrize("penalty", [0.0, 0.02])
def test_n_pair_is_the_formula(shape, penalty, agree):
    agree(
        lambda f, g: n_pair(f, g, penalty),
        lambda f, g: n_pair_reference(f, g, penalty),
        torch.randn(shape),
        torch.randn(shape),
    )


def test_values_computed_by_hand():
    # On a line: 0 and 1 with one label, 1.5 with another.
    x, labels = torch.tensor([[0.0], [1.0], [1.5]]), torch.tensor([0, 0, 1])
    # 1/2 * 1 for the equal pair; (2 - 1.5)^2 / 2 and (2 - 0.5)^2 / 2 for the others.
    assert pairwise_contrastive(x, labels, 2.0).item() == pytest.approx((0.5 + 0.125 + 1.125) / 3)
    # Anchor 0: 1 - 1.5 + 0.2 < 0. Anchor 1: 1 - 0.5 + 0.2 = 0.7. Anchor 2 has no positive.
    assert triplet(x, labels, 0.2, "hard").item() == pytest.approx(0.35)
    assert triplet(x, labels, 0.2, "semi-hard").item() == pytest.approx(0.35)
    assert triplet(x, labels, 0.2, "all").item() == pytest.approx(0.7)
    assert triplet(x, labels, 0.2, "hard", squared=True).item() == pytest.approx((1 - 0.25 + 0.2) / 2)
    # exp(0 - 1) for the one other class.
    assert n_pair(torch.eye(2), torch.eye(2)).item() == pytest.approx(math.log(1 + 1 / math.e))
    assert n_pair(torch.eye(2), torch.eye(2), 0.1).item() == pytest.approx(math.log(1 + 1 / math.e) + 0.1)


def test_semi_hard_takes_the_nearest_of_those_farther_than_the_positive():
    # From 0: the positive at 1, negatives at 0.5 (hard), 1.1 and 3. The hardest is 0.5, the semi-hard one 1.1.
    x, labels = torch.tensor([[0.0], [1.0], [-0.5], [-1.1], [-3.0]]), torch.tensor([0, 0, 1, 2, 3])
    from_0, from_1 = 1 - 1.1 + 0.2, 0.0  # seen from 1 the nearest negative is 1.5 away
    assert triplet(x, labels, 0.2, "semi-hard").item() == pytest.approx((from_0 + from_1) / 2, abs=1e-6)
    assert triplet(x, labels, 0.2, "hard").item() == pytest.approx((1 - 0.5 + 0.2) / 2, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_identical_embeddings_cost_the_margin(value):
    x = torch.full((8, 4), value, requires_grad=True)
    for mining in ("all", "semi-hard", "hard"):
        assert triplet(x, LABELS, 0.3, mining).item() == pytest.approx(0.3)
        assert triplet(x, LABELS, None, mining).item() == pytest.approx(math.log(2))
        (gradient,) = torch.autograd.grad(triplet(x, LABELS, 0.3, mining), x)
        assert torch.equal(gradient, torch.zeros_like(x))
    loss = pairwise_contrastive(x, LABELS, 2.0)
    same = (LABELS[:, None] == LABELS).sum().item() - 8
    assert loss.item() == pytest.approx(2 * (1 - same / 56))
    assert torch.equal(torch.autograd.grad(loss, x)[0], torch.zeros_like(x))
    assert n_pair(x, x).item() == pytest.approx(math.log(8), abs=1e-6)


@pytest.mark.parametrize("labels", [[0, 1, 2], [4, 4, 4], [0]])
@pytest.mark.parametrize("mining", ["all", "semi-hard", "hard"])
@pytest.mark.parametrize("margin", [0.2, None])
def test_a_batch_without_triplets_costs_nothing(labels, mining, margin):
    x = torch.randn(len(labels), 4, requires_grad=True)
    loss = triplet(x, torch.tensor(labels), margin, mining)
    loss.backward()
    assert loss.item() == 0 and torch.equal(x.grad, torch.zeros_like(x))


def test_one_sample_makes_no_pair():
    x = torch.randn(1, 4, requires_grad=True)
    assert pairwise_contrastive(x, torch.tensor([0])).item() == 0
    assert n_pair(x, x).item() == 0


def test_small_distances_between_long_vectors_are_exact():
    # Through a matrix product, torch's choice above 25 samples, the distance of 0.001 would drown in lengths of 1024.
    x = torch.ones(64, 256) + torch.arange(64)[:, None]
    x[1] = x[0]
    x[1, 0] += 1e-3
    labels = torch.arange(64)
    labels[1] = 0
    # The nearest of another label is 2 away in each of 256 dimensions.
    assert triplet(x, labels, 32.0, "hard").item() == pytest.approx(1e-3, rel=0.1)


def test_what_cannot_be_computed_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 8\), \(5,\)"):
        triplet(torch.zeros(4, 8), torch.zeros(5))
    with pytest.raises(ValueError, match="embeddings"):
        pairwise_contrastive(torch.zeros(4, 2, 8), torch.zeros(4))
    with pytest.raises(ValueError, match="mining is 'easy'"):
        triplet(torch.zeros(4, 8), torch.zeros(4), mining="easy")
    with pytest.raises(ValueError, match=r"\(4, 8\) and \(3, 8\)"):
        n_pair(torch.zeros(4, 8), torch.zeros(3, 8))
