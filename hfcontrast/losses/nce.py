"""Noise-contrastive estimation (Gutmann and Hyvärinen, 2010) as InstDisc uses it, and its softmax form (PIRL)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision


@full_precision
def nce(
    positives: Tensor,
    negatives: Tensor,
    temperature: float,
    log_noise: float | Tensor,
    log_partition: float | Tensor = 0.0,
) -> Tensor:
    """Noise-contrastive estimation (Gutmann and Hyvärinen, AISTATS 2010; Wu et al., 2018, arXiv:1805.01978, eq. 4 to 7).

    With a similarity s, a constant Z in place of the sum of exp(s / t) over all classes, and M noise samples drawn with
    probability p::

        h(s) = exp(s / t) / Z  /  (exp(s / t) / Z + M p)

        mean over i of  -log h(s_i) - sum_j log(1 - h(n_ij))

    Args:
        positives: (B,) similarities s_i with the right class. Half precision is computed in float32.
        negatives: (B, M) similarities n_ij with the classes drawn from the noise. Without any (M = 0) the loss is 0.
        temperature: t > 0; 0.07 in Wu et al.
        log_noise: log p; for uniform draws from N classes -log N. A tensor (B, 1) or () broadcasts.
        log_partition: log Z.

    Returns:
        Scalar >= 0; log(1 + M) + M log(1 + 1 / M) where the model does not distinguish the classes from the noise:
        exp(s / t) / Z = p for all of them.

    Raises:
        ValueError: Shapes that do not fit.
    """
    _check_similarities("NCE", positives, negatives)
    count = negatives.shape[1]
    shift = log_partition + log_noise + (math.log(count) if count else -math.inf)
    logits = torch.cat([positives.unsqueeze(1), negatives], dim=1) / temperature - shift
    return (F.softplus(-logits[:, 0]) + F.softplus(logits[:, 1:]).sum(dim=1)).mean()


@full_precision
def softmax_nce(positives: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """NCE with the softmax over a sample's own candidates as the model (PIRL, arXiv:1912.01991, eq. 3 and 4).

    With a similarity s and h the softmax of s / t over one positive and M negatives::

        mean over i of  -log h(s_i) - sum_j log(1 - h(n_ij))

    The first term alone is InfoNCE.

    Args:
        positives: (B,) similarities s_i. Half precision is computed in float32.
        negatives: (B, M) similarities n_ij of each. Without any (M = 0) the loss is 0.
        temperature: t > 0; 0.07 in PIRL.

    Returns:
        Scalar >= 0; log(1 + M) + M log(1 + 1 / M) for similarities that are all alike.

    Raises:
        ValueError: Shapes that do not fit.
    """
    _check_similarities("the softmax form of NCE", positives, negatives)
    if not negatives.shape[1]:
        return 0.0 * positives.sum()
    logits = torch.cat([positives.unsqueeze(1), negatives], dim=1) / temperature
    return -(logits.log_softmax(dim=1)[:, 0] + log_complements(logits)[:, 1:].sum(dim=1)).mean()


def _check_similarities(loss: str, positives: Tensor, negatives: Tensor) -> None:
    if positives.ndim != 1 or negatives.ndim != 2 or len(negatives) != len(positives):
        raise ValueError(
            f"{loss} takes similarities of positives (B,) and negatives (B, M), got {tuple(positives.shape)} and "
            f"{tuple(negatives.shape)}"
        )


def log_complements(logits: Tensor) -> Tensor:
    """log(1 - softmax(logits)) along the last dimension, of two finite logits or more, exact where the softmax is near 1.

    Only the largest probability can be near 1: its complement is computed as the sum of all others.
    """
    largest = logits.argmax(dim=-1, keepdim=True)
    total = logits.logsumexp(dim=-1, keepdim=True)
    others = logits.scatter(-1, largest, -torch.inf)
    complements = torch.log1p(-(others - total).exp())
    return complements.scatter(-1, largest, others.logsumexp(dim=-1, keepdim=True) - total)
