"""Schedules: values as functions of the elapsed fraction of a training."""

import math


def cosine(start: float, end: float, fraction: float) -> float:
    """Half a cosine from ``start`` (fraction 0) to ``end`` (fraction 1); constant outside."""
    fraction = min(max(fraction, 0.0), 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * fraction))


def linear(start: float, end: float, fraction: float) -> float:
    """Straight line from ``start`` (fraction 0) to ``end`` (fraction 1); constant outside."""
    fraction = min(max(fraction, 0.0), 1.0)
    return start + (end - start) * fraction
