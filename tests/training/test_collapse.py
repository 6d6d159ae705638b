"""A run whose embeddings collapse warns once, with the method's name and advice."""

import pytest
import torch

from hfcontrast.methods.simclr import SimCLR
from hfcontrast.testing import build
from hfcontrast.training.collapse import PATIENCE, CollapseWatch, features_collapsed, spread


def values(embeddings):
    return {name: value.item() for name, value in spread(embeddings).items()}


@pytest.fixture(scope="module")
def healthy():
    return values(torch.randn(128, 2, 16, generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def collapsed():
    noise = torch.randn(128, 2, 16, generator=torch.Generator().manual_seed(0))
    return values(torch.ones(16) + 1e-3 * noise)


def test_spread_of_known_embeddings(healthy, collapsed):
    assert healthy["embedding_std"] == pytest.approx(1.0, abs=0.05) and healthy["embedding_rank"] > 15
    assert collapsed["embedding_std"] < 0.01
    line = values(torch.randn(64, 1) * torch.randn(16))
    assert line["embedding_rank"] == pytest.approx(1.0, abs=0.01)
    assert spread(None) == {} and spread(torch.randn(2, 4)) == {}


def test_it_warns_once_after_some_lines_in_a_row(healthy, collapsed):
    watch = CollapseWatch(build(SimCLR), "simclr")
    assert [watch.look(collapsed, 0.1) for _ in range(2 * PATIENCE)] == [None] * 2 * PATIENCE  # too early to tell
    for _ in range(PATIENCE - 1):
        assert watch.look(collapsed, 0.5) is None
    assert watch.look(healthy, 0.5) is None
    said = [watch.look(collapsed, 0.6) for _ in range(3 * PATIENCE)]
    assert [text is not None for text in said] == [n == PATIENCE - 1 for n in range(3 * PATIENCE)]
    assert "simclr have collapsed" in said[PATIENCE - 1] and SimCLR.collapse_advice in said[PATIENCE - 1]


def test_lines_without_embeddings_are_fine():
    watch = CollapseWatch(build(SimCLR), "simclr")
    assert all(watch.look({"loss": 1.0}, 0.9) is None for _ in range(20))


@pytest.mark.parametrize(
    "trained, untrained, images, collapsed",
    [
        ((0.02, 1.2), (0.6, 20.0), 400, True),
        ((0.05, 7.0), (0.05, 7.0), 12, False),  # as before the training, and of images that differ
        ((0.05, 7.0), None, 12, False),
        ((0.05, 7.0), None, 400, True),
        ((0.05, 7.0), (0.06, 8.0), 400, False),
        ((0.05, 2.0), (0.06, 8.0), 400, True),
        ((1e-6, 30.0), (0.3, 9.0), 40, True),  # the rank is of rounding errors
        ((0.9, 1.2), (0.9, 9.0), 400, False),
    ],
)
def test_features_have_collapsed_where_they_fell_below_the_untrained_encoders(trained, untrained, images, collapsed):
    names = ("feature_std", "effective_rank")
    notes = {"trained": dict(zip(names, trained)), "counts": {"effective_rank": {"test_images": images}}}
    if untrained:
        notes["untrained"] = dict(zip(names, untrained))
    assert features_collapsed(notes) is collapsed
    assert not features_collapsed({})
