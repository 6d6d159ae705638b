"""Sinkhorn-Knopp: assignments to prototypes that are balanced over the batch (SwAV, DINOv2)."""

from collections.abc import Callable

import torch
from torch import Tensor

from .precision import full_precision
from .soft_targets import row_chunks


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Soft assignments balanced over the prototypes (SwAV, Caron et al., 2020, arXiv:2006.09882, eq. 3 to 5).

    The algorithm of Sinkhorn and Knopp scales the columns and rows of exp(scores / epsilon) in turn, so that each prototype
    gets N / K samples and each sample sums to 1; here in logarithms, which do not overflow for any epsilon. The batch must
    be the global one.

    Args:
        scores: (N, K), similarities of N samples with K prototypes. Half precision is computed in float32.
        epsilon: Smoothness > 0; small values give hard assignments.
        iterations: Number of scalings of both, >= 1; the samples last.

    Returns:
        (N, K) without gradient, float32 at least. Each row sums to 1; the columns' sums approach N / K. Identical
        samples are each spread over all prototypes equally.

    Raises:
        ValueError: No iteration, or not a matrix.
    """
    if scores.ndim != 2 or iterations < 1:
        raise ValueError(f"scores (N, K) and 1 iteration or more are needed, got {tuple(scores.shape)}, {iterations}")
    logs = scores / epsilon
    for _ in range(iterations):
        logs = logs - logs.logsumexp(dim=0)
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
    return logs.exp()


@torch.no_grad()
def sinkhorn_center(
    logits: Tensor, temperature: float, iterations: int = 3, over_processes: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """The center with which a teacher's softmax becomes its Sinkhorn-Knopp assignment (DINOv2, arXiv:2304.07193, section 4).

    Sinkhorn and Knopp scale the prototypes and the samples of exp(t / tau) in turn, the samples last. The scaling of the
    samples is the softmax itself, and the scaling of the prototypes is a vector c subtracted from all logits, so that::

        softmax((t - c) / tau)  =  sinkhorn(t, epsilon=tau, iterations)

    The assignments themselves, an array as large as the logits, are not computed: :func:`~hfcontrast.losses.dino_loss` and
    :func:`~hfcontrast.losses.ibot_loss` only need c. The logits are read a few rows at a time, once per iteration.

    Args:
        logits: (N, K) of the teacher: all samples to be assigned, without padding.
        temperature: tau > 0 of the teacher.
        iterations: Number of scalings of both, >= 1.
        over_processes: Combines the log-sum-exps (K,) over the rows of this process into those over the rows of all
            processes; None for a single process.

    Returns:
        (K,) float32.

    Raises:
        ValueError: No iteration, or not a matrix.
    """
    if logits.ndim != 2 or iterations < 1:
        raise ValueError(f"logits (N, K) and 1 iteration or more are needed, got {tuple(logits.shape)}, {iterations}")
    over_processes = over_processes or (lambda sums: sums)
    prototypes = logits.shape[1]
    logs = logits.new_full((prototypes,), -torch.inf, dtype=torch.float32)
    with torch.autocast(logits.device.type, enabled=False):
        for rows in row_chunks(len(logits), prototypes):
            logs = torch.logaddexp(logs, (logits[rows].float() / temperature).logsumexp(dim=0))
        logs = over_processes(logs)
        for _ in range(iterations - 1):
            shares = torch.zeros_like(logs)
            for rows in row_chunks(len(logits), prototypes):
                shares += (logits[rows].float() / temperature).sub_(logs).softmax(dim=1).sum(dim=0)
            # No share is 0: after its scaling every prototype has a sample with at least 1 / N, so at least 1 / (N K) here.
            logs = logs + over_processes(shares.log())
    return logs * temperature
