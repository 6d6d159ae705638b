"""SIGReg, sketched isotropic Gaussian regularization of LeJEPA (Balestriero and LeCun, 2025)."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .precision import full_precision

AT_ONCE = 1 << 16  # projections on a CPU whose cosines are computed together: they stay in the core's cache
ACCELERATOR_AT_ONCE = 1 << 23


def _chunks(samples: Tensor) -> Iterator[slice]:
    at_once = AT_ONCE if samples.device.type == "cpu" else ACCELERATOR_AT_ONCE
    step = max(1, at_once // max(1, samples.shape[1]))
    return (slice(start, start + step) for start in range(0, len(samples), step))


class _Waves(torch.autograd.Function):
    """Sums over the samples x (N, R) of cos(t x) and sin(t x), (2, T, R); the N x R x T values are never held in memory."""

    @staticmethod
    def forward(ctx: Any, samples: Tensor, knots: list[float]) -> Tensor:
        sums = samples.new_zeros(2, len(knots), samples.shape[1])
        for rows in _chunks(samples):
            for k, t in enumerate(knots):
                angles = samples[rows] * t
                sums[0, k] += angles.cos().sum(dim=0)
                sums[1, k] += angles.sin_().sum(dim=0)
        ctx.knots = knots
        ctx.save_for_backward(samples)
        return sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (samples,) = ctx.saved_tensors
        gradient = torch.zeros_like(samples)
        for rows in _chunks(samples):
            for k, t in enumerate(ctx.knots):
                angles = samples[rows] * t
                gradient[rows].addcmul_(angles.cos(), upstream[1, k], value=t)
                gradient[rows].addcmul_(angles.sin_(), upstream[0, k], value=-t)
        return gradient, None


@full_precision
def sigreg(
    embeddings: Tensor,
    directions: Tensor,
    points: int = 17,
    reach: float = 5.0,
    over_processes: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Sketched isotropic Gaussian regularization (Balestriero and LeCun, 2025, arXiv:2511.08544, algorithm 1).

    Along each direction a the projections x_n = a . z_n are compared with a standard normal variable by the test of Epps and
    Pulley, the distance of the characteristic functions::

        N * integral of  |1/N sum_n exp(i t x_n) - exp(-t^2 / 2)|^2  exp(-t^2 / 2) dt,     t from -reach to reach

    by the trapezoidal rule, and averaged over the directions. The integrand is even and 0 at t = 0, so half of the points are
    enough. Memory is linear in N: the cosines and sines are recomputed in the backward pass.

    Args:
        embeddings: (N, ..., D), not normalized. Dimensions in between, such as views, are tested separately, and their
            statistics are averaged. Half precision is computed in float32.
        directions: (D, M) unit vectors; the paper draws new ones for every batch.
        points: Points of the trapezoidal rule on [-reach, reach], odd, >= 3.
        reach: Largest t of the integral.
        over_processes: Sums a vector (S,) over all processes, with gradients; None for a single process. With it N is the
            number of samples of all processes.

    Returns:
        Scalar >= 0. About 1.06 (sqrt(2 pi) - sqrt(2 pi / 3)) in the mean over normal samples, whatever N; 0.409 N for
        embeddings that are all zero; at most 4 sqrt(2 pi) N.

    Raises:
        ValueError: The shapes do not fit, or the points are even or fewer than 3.
    """
    if embeddings.ndim < 2 or directions.ndim != 2 or len(directions) != embeddings.shape[-1]:
        raise ValueError(
            f"embeddings (N, ..., D) and directions (D, M) are needed, got {tuple(embeddings.shape)} and "
            f"{tuple(directions.shape)}"
        )
    if points < 3 or points % 2 == 0:
        raise ValueError(f"points is {points}, expected an odd number, 3 or more")
    spacing = 2 * reach / (points - 1)
    knots = [spacing * k for k in range(1, points // 2 + 1)]
    waves: Tensor = _Waves.apply((embeddings @ directions.to(embeddings.dtype)).flatten(1), knots)
    samples: int | Tensor = len(embeddings)
    if over_processes is not None:
        summed = over_processes(torch.cat([waves.flatten(), waves.new_tensor([len(embeddings)])]))
        waves, samples = summed[:-1].view_as(waves), summed[-1].detach()
    normal = torch.exp(-0.5 * waves.new_tensor(knots).square())
    weights = 2 * spacing * normal
    weights[-1] /= 2
    cosines, sines = waves / samples
    distances = (cosines - normal.unsqueeze(1)).square() + sines.square()
    loss: Tensor = samples * (weights @ distances).mean()
    return loss
