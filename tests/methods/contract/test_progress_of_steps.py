"""Progress: counts are whole numbers that can be."""

import numpy as np
import pytest
import torch

from hfcontrast import Progress
from hfcontrast.errors import ArgumentError


@pytest.mark.parametrize(
    "values, words",
    [
        (("7", 10), "step: Progress got '7', expected a whole number, 0 or more"),
        ((-1, 10), "step: Progress got -1"),
        ((0, None), "total_steps: Progress got None"),
        ((0, 10.5), "total_steps: Progress got 10.5"),
        ((0, 10, 0), "steps_per_epoch: Progress got 0, expected a whole number, 1 or more"),
        ((0, 10, 1, "0"), "seed: Progress got '0', expected a whole number$"),
    ],
)
def test_what_is_no_count_is_said(values, words):
    with pytest.raises(ArgumentError, match=words):
        Progress(*values)


def test_whole_numbers_of_any_type_are_counts():
    progress = Progress(np.int64(7), 1e1, torch.tensor(5), seed=-1)
    assert progress == Progress(7, 10, 5, -1) and type(progress.step) is type(progress.total_steps) is int
    assert progress.epoch == 1 and progress.fraction == 0.7
