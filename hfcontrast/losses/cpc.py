"""CPC's InfoNCE of predictions and candidates over inner products (van den Oord et al., 2018)."""

import torch
from torch import Tensor

from .precision import full_precision
from .tiles import cross_log_sums


@full_precision
def predictive_info_nce(predictions: Tensor, candidates: Tensor, positives: Tensor, tile: int | None = None) -> Tensor:
    """InfoNCE over inner products: each prediction finds its candidate among all (CPC, arXiv:1807.03748, eq. 3 and 4).

    With predictions p_i = W c_i of contexts and candidates z::

        mean over i of  -log( exp(p_i . z_positive(i)) / sum_j exp(p_i . z_j) )

    log M minus this value is a lower bound of the mutual information of context and target, in nats. For unit vectors with a
    temperature there is :func:`info_nce`.

    Args:
        predictions: (N, D), used as they are, and so are the candidates: their lengths are the inverse temperature. Half
            precision is computed in float32.
        candidates: (M, D): the targets of all predictions, which are negatives of each other.
        positives: (N,) int64, the candidate of each prediction; several may have the same one.
        tile: Rows and columns of the N x M scores held at a time; None holds them whole while they are few and in tiles
            otherwise. The value does not depend on it.

    Returns:
        Scalar >= 0; log M for candidates that are all alike and for predictions of zero, 0 for M = 1. A gradient reaches
        predictions and candidates.

    Raises:
        ValueError: Shapes that do not fit, or a tile below 1.
    """
    widths = predictions.shape[1:], candidates.shape[1:]
    if widths[0] != widths[1] or len(widths[0]) != 1 or positives.shape != predictions.shape[:1]:
        raise ValueError(
            "InfoNCE of predictions takes predictions (N, D), candidates (M, D) and positives (N,), got "
            f"{tuple(predictions.shape)}, {tuple(candidates.shape)} and {tuple(positives.shape)}"
        )
    temperature = torch.ones(
        (), device=predictions.device
    )  # as a tensor, so that scores of any size are summed without overflow
    denominators, _ = cross_log_sums(predictions, candidates, temperature, tile=tile)
    return (denominators - (predictions * candidates[positives]).sum(dim=-1)).mean()
