"""Curves of a run as an image."""

import math

import numpy as np
import pytest

from hfcontrast.report.curves import curves_image


def dark(image):
    """(H, W) where the line is."""
    red, green, blue = np.moveaxis(np.asarray(image).astype(int), -1, 0)
    return (blue - red > 80) & (green < 150)


def test_a_falling_curve_falls_from_left_to_right_in_a_panel_of_its_own():
    image = curves_image({"loss": [(step, 100.0 - step) for step in range(100)], "kNN": [(0, 1.0), (99, 2.0)]})
    upper, lower = np.split(dark(image), 2)
    for panel, direction in ((upper, 1), (lower, -1)):
        rows, columns = np.nonzero(panel)
        heights = [rows[columns == column].mean() for column in np.unique(columns)]
        assert direction * (heights[-1] - heights[0]) > 80
        assert np.corrcoef(np.arange(len(heights)), heights)[0, 1] * direction > 0.99


def test_values_that_are_not_finite_are_gaps():
    whole = [(step, 1.0 * step) for step in range(9)]
    broken = [(step, math.nan if 3 < step < 6 else value) for step, value in whole]
    assert dark(curves_image({"loss": broken})).sum() < dark(curves_image({"loss": whole})).sum()
    assert dark(curves_image({"loss": [(0, math.nan), (1, math.inf)]})).sum() == 0
    assert dark(curves_image({"loss": [(5, 2.0)]})).sum() > 0
    with pytest.raises(ValueError):
        curves_image({})
