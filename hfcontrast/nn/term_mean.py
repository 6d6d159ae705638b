"""The mean over terms of which samples have different numbers, such as masked patches."""

import torch
from torch import Tensor

from .distributed import all_sum, world_size


def mean_of_terms(sums: Tensor, counts: Tensor) -> Tensor:
    """Sum of all terms of the global batch by their number, so that N processes have the gradients of one.

    Args:
        sums: Any shape: sums over the terms of a sample of this process.
        counts: How many terms each of them has; at least one in the global batch.

    Returns:
        Scalar, whose mean over the processes is the mean over all terms.
    """
    with torch.no_grad():
        number = all_sum(counts.sum().float()) / world_size()
    return sums.sum() / number
