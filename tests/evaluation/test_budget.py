"""Rows of an evaluation that a time is enough for."""

import pytest
import torch

from hfcontrast.data.sources import load_rows
from hfcontrast.evaluation import budget
from hfcontrast.evaluation.batches import Batches
from hfcontrast.testing.color_rows import color_rows

COST = budget.Cost(image=1e-3, encoding=2e-3, product=1e-11, passing=1e-9)


def test_seconds_by_hand():
    """300 images of 1 ms and two encodings of 2 ms; products of 200 x 100 x 32 for kNN; the probe's passes and matrices."""
    own = 300 * (1e-3 + 2 * 2e-3)
    knn, probe = 1e-11 * 200 * 100 * 32, 1e-9 * 110 * 200 * 32 + 1e-11 * (200 * 32**2 + 6 * 32**3)
    assert COST.seconds(200, 100, [32], probe=False, encodings=2) == pytest.approx(own + knn)
    assert COST.seconds(200, 100, [32, 32], probe=True, encodings=2) == pytest.approx(own + 2 * (knn + probe))


def test_as_many_rows_as_the_time_is_enough_for():
    wide = ([3072, 96, 96], True, 2)
    everything = COST.seconds(20000, 10000, *wide)
    assert budget.affordable_rows(COST, 20000, 10000, everything, *wide) == (20000, 10000)
    rows = [budget.affordable_rows(COST, 20000, 10000, everything * share, *wide) for share in (0.7, 0.3, 0.1)]
    assert rows == sorted(rows, reverse=True) and len(set(rows)) == 3
    for (train, test), share in zip(rows, (0.7, 0.3, 0.1)):
        assert COST.seconds(train, test, *wide) <= everything * share and train == pytest.approx(2 * test, rel=0.05)
        assert float(f"{train:.2g}") == train
    assert budget.affordable_rows(COST, 20000, 10000, 0.0, *wide) == (budget.FEWEST, budget.FEWEST)
    assert budget.affordable_rows(COST, 150, 30, 0.0, *wide) == (150, 30)


def test_everything_is_measured():
    def batches():
        def transform(images):
            return torch.stack([torch.ones(3, 8, 8) * image.size[0] for image in images])

        return Batches(load_rows("builtin/digits", split="test"), 40, transform=transform, batch_size=16, size=8)

    encoder, _ = color_rows()
    drawn = torch.get_rng_state()
    cost = budget.measured_cost(batches, encoder, classes=10, width=budget.widths_of(encoder, 8, True, 2)[0])
    assert all(value > 0 for value in vars(cost).values())
    assert torch.equal(drawn, torch.get_rng_state())
