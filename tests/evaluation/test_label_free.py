"""Evaluation without labels: what the figures are of known features, and where runs and commands include them."""

import math

import pytest
import torch

from hfcontrast.evaluation.label_free import LabelFree, neighbor_agreement
from hfcontrast.evaluation.two_views import augmented
from hfcontrast.nn.collapse import rankme
from hfcontrast.testing import check_evaluator


def plain_agreement(first, second, k):
    """The definition, image by image."""
    shares = []
    for image in range(len(first)):
        sets = []
        for features in (first, second):
            others = [other for other in range(len(features)) if other != image]
            cosines = {
                other: float(torch.cosine_similarity(features[image], features[other], dim=0)) for other in others
            }
            sets.append(set(sorted(others, key=cosines.get)[-k:]))
        shares.append(len(sets[0] & sets[1]) / k)
    return sum(shares) / len(shares)


def test_agreement_is_the_share_of_neighbors_in_both_views():
    first = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    second = first + 0.5 * torch.randn(30, 5, generator=torch.Generator().manual_seed(1))
    for k in (1, 4, 10):
        assert neighbor_agreement(first, second, k) == pytest.approx(plain_agreement(first, second, k))
    assert neighbor_agreement(first, first * 3, 4) == pytest.approx(1)


@pytest.mark.parametrize("features", [torch.zeros(400, 4), torch.ones(400, 4)])
def test_features_that_say_nothing_agree_by_chance(features):
    assert neighbor_agreement(features, features, 10) == pytest.approx(10 / 399, abs=0.01)


def test_rankme_is_that_of_the_paper():
    orthogonal = torch.eye(8)[:5] * 3
    assert rankme(orthogonal) == pytest.approx(5, rel=1e-4)
    assert rankme(torch.ones(9, 4)) == pytest.approx(1, rel=1e-4)  # not centered: one direction, and not none
    values, epsilon = torch.tensor([4.0, 2.0, 2.0]), 1e-7
    shares = values / 8 + epsilon
    expected = math.exp(-float((shares * shares.log()).sum()))
    assert rankme(torch.diag(values)) == pytest.approx(expected) == pytest.approx(2 * math.sqrt(2), rel=1e-4)


def test_views_depend_on_the_image_and_the_view_alone():
    pixels = torch.rand(6, 3, 16, 16)
    places = torch.tensor([3, 1, 4, 1, 5, 9])
    one, other = augmented(pixels, places, 0), augmented(pixels, places, 1)
    assert one.shape == pixels.shape and not torch.allclose(one, other)
    assert torch.equal(augmented(pixels[2:4], places[2:4], 0), one[2:4])
    constant = augmented(torch.full((64, 3, 8, 8), 0.5), torch.arange(64), 0)
    assert torch.allclose(constant, constant[:, :1, :1, :1].expand_as(constant))  # no border is cut into it
    assert constant.min() >= 0.2 and constant.max() <= 0.8


def test_the_contract_of_evaluators_is_kept():
    check_evaluator(LabelFree, {"k": 3, "images": 7})
