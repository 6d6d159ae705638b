"""The contract suites: checks that every method and every evaluator must pass, for authors of plugins.

from hfcontrast.testing import check_method

def test_my_method():
    check_method(MyMethod, projection_dim=16)

For evaluators: ``check_evaluator(MyEvaluator)``.
"""

from .checkpointing import check_checkpointing
from .contract import (
    check_export,
    check_forward_changes_nothing,
    check_gradients,
    check_learns,
    check_method,
    check_processes,
    check_round_trip,
    check_step,
)
from .evaluators import check_evaluator
from .frozen import check_frozen
from .mistakes import check_after_step, check_devices
from .samples import check_fewest_images, check_samples_apart
from .small import TINY_BACKBONE, TINY_CONVOLUTIONAL_TOWERS, TINY_RESNET, TINY_TOWERS, build, random_batch
from .violation import ContractViolation

__all__ = [
    "TINY_BACKBONE",
    "TINY_CONVOLUTIONAL_TOWERS",
    "TINY_RESNET",
    "TINY_TOWERS",
    "ContractViolation",
    "build",
    "check_after_step",
    "check_checkpointing",
    "check_devices",
    "check_evaluator",
    "check_export",
    "check_fewest_images",
    "check_forward_changes_nothing",
    "check_frozen",
    "check_gradients",
    "check_learns",
    "check_method",
    "check_processes",
    "check_round_trip",
    "check_samples_apart",
    "check_step",
    "random_batch",
]
