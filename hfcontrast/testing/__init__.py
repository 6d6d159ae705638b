"""The contract suite: what every method must fulfil, for authors of methods to run on their own.

from hfcontrast.testing import check_method

def test_my_method():
    check_method(MyMethod, projection_dim=16)
"""

from .contract import (
    ContractViolation,
    check_export,
    check_forward_changes_nothing,
    check_gradients,
    check_learns,
    check_method,
    check_processes,
    check_round_trip,
    check_samples_apart,
    check_step,
)
from .small import TINY_BACKBONE, TINY_TOWERS, build, random_batch

__all__ = [
    "TINY_BACKBONE",
    "TINY_TOWERS",
    "ContractViolation",
    "build",
    "check_export",
    "check_forward_changes_nothing",
    "check_gradients",
    "check_learns",
    "check_method",
    "check_processes",
    "check_round_trip",
    "check_samples_apart",
    "check_step",
    "random_batch",
]
