"""The share of the time spent waiting for data, in the steady state."""

from types import SimpleNamespace

import pytest

from hfcontrast.training.meter import Meter


@pytest.mark.parametrize(
    "intervals, expected", [([(9.0, 10.0)], 0.9), ([(9.0, 10.0), (1.0, 10.0), (0.0, 10.0)], 0.05), ([], 0.0)]
)
def test_the_first_steps_do_not_count_where_there_are_others(intervals, expected):
    assert Meter.waiting.fget(SimpleNamespace(_intervals=intervals)) == pytest.approx(expected)
