"""Losses that tell a sample from noise: NCE, its softmax forms over a memory bank, and invariant spreading."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import cross_log_sums


@full_precision
def nce(
    positives: Tensor,
    negatives: Tensor,
    temperature: float,
    log_noise: float | Tensor,
    log_partition: float | Tensor = 0.0,
) -> Tensor:
    """Noise-contrastive estimation (Gutmann and Hyvärinen, AISTATS 2010; Wu et al., 2018, arXiv:1805.01978, eq. 4 to 7).

    With a similarity s, a constant Z that stands for the sum of exp(s / t) over all classes, and M draws of noise whose
    probability is p::

        h(s) = exp(s / t) / Z  /  (exp(s / t) / Z + M p)

        mean over i of  -log h(s_i) - sum_j log(1 - h(n_ij))

    Args:
        positives: (B,) similarities s_i with the right class. Half precision is computed in float32.
        negatives: (B, M) similarities n_ij with the classes drawn from the noise. Without any (M = 0) the loss is 0.
        temperature: t > 0; 0.07 in Wu et al.
        log_noise: log p; for uniform draws from N classes -log N. A tensor (B, 1) or () broadcasts.
        log_partition: log Z.

    Returns:
        Scalar >= 0; log(1 + M) + M log(1 + 1 / M) where the model cannot tell the classes from the noise, that is
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
    return -(logits.log_softmax(dim=1)[:, 0] + _log_complements(logits)[:, 1:].sum(dim=1)).mean()


@full_precision
def instance_softmax(
    embeddings: Tensor, bank: Tensor, index: Tensor, temperature: float, tile: int | None = None
) -> Tensor:
    """The non-parametric softmax over all images of a data set (Wu et al., 2018, arXiv:1805.01978, eq. 2 and 3).

    With unit vectors v and a bank that holds one unit vector u for every image::

        mean over i of  -log( exp(v_i . u_index(i) / t) / sum_j exp(v_i . u_j / t) )

    Args:
        embeddings: (B, D); need not be normalized, nor the bank. A zero vector stays zero. Half precision is computed
            in float32.
        bank: (N, D); no gradient reaches it.
        index: (B,) int64, the images' rows in the bank.
        temperature: t > 0; 0.07 in the paper.
        tile: Rows and columns of the (B, N) similarities held at a time; None holds them whole while they are few and in
            tiles above. The value does not depend on it.

    Returns:
        Scalar >= 0; log N for vectors that are all alike, 0 for N = 1.

    Raises:
        ValueError: Shapes that do not fit, or a tile below 1.
    """
    if bank.ndim != 2 or index.ndim != 1 or embeddings.shape != (len(index), bank.shape[1]):
        raise ValueError(
            "the softmax over a bank takes embeddings (B, D), a bank (N, D) and an index (B,), got "
            f"{tuple(embeddings.shape)}, {tuple(bank.shape)} and {tuple(index.shape)}"
        )
    v, bank = F.normalize(embeddings, dim=-1), F.normalize(bank.detach(), dim=-1)
    denominators, _ = cross_log_sums(v, bank, temperature, tile=tile)
    return (denominators - (v * bank[index]).sum(dim=-1) / temperature).mean()


@full_precision
def invariant_spreading(images: Tensor, augmented: Tensor, temperature: float, symmetric: bool = False) -> Tensor:
    """Invariant and spreading instance features (Ye et al., 2019, arXiv:1904.03436, eq. 2 to 6).

    With unit vectors f of the images, g of their augmented views, and softmaxes over the batch's images k::

        p(i | g_j) = exp(f_i . g_j / t) / sum_k exp(f_k . g_j / t)
        p(i | f_j) = exp(f_i . f_j / t) / sum_k exp(f_k . f_j / t)

        mean over i of  -log p(i | g_i) - sum_{j != i} log(1 - p(i | f_j))

    A view is told to be its image, and no other image may be taken for it.

    Args:
        images: (B, D), embeddings of the images; need not be normalized. A zero vector stays zero. Half precision is
            computed in float32. The B x B similarities are held whole.
        augmented: (B, D), embeddings of their augmented views.
        temperature: t > 0; 0.1 in the paper.
        symmetric: The value of the authors' code: each of the 2 B vectors in turn is told to be its partner among all vectors
            but itself, and none of the others; the mean over the 2 B. Gradients flow through both vectors of each product,
            in the authors' code through the one whose turn it is.

    Returns:
        Scalar >= 0. For B = 1 there is no other image and the loss is 0. Embeddings that are all alike give
        log B - (B - 1) log(1 - 1 / B), and log(2 B - 1) - (2 B - 2) log(1 - 1 / (2 B - 1)) in the symmetric form.

    Raises:
        ValueError: The two differ in shape.
    """
    if images.ndim != 2 or images.shape != augmented.shape:
        raise ValueError(
            f"images (B, D) and their augmented views (B, D) are needed, got {tuple(images.shape)} and "
            f"{tuple(augmented.shape)}"
        )
    count = len(images)
    if count == 1:
        return 0.0 * (images * augmented).sum()
    f, g = F.normalize(images, dim=-1), F.normalize(augmented, dim=-1)
    if symmetric:
        z = torch.cat([f, g])
        itself = torch.eye(2 * count, dtype=torch.bool, device=z.device)
        partner = itself.roll(count, dims=0)
        among = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
        found, spread, kept = among.log_softmax(dim=1)[partner], among, itself | partner
    else:
        kept = torch.eye(count, dtype=torch.bool, device=f.device)
        found, spread = (g @ f.T / temperature).log_softmax(dim=1)[kept], f @ f.T / temperature
    return -(found + _log_complements(spread).masked_fill(kept, 0.0).sum(dim=1)).mean()


def _log_complements(logits: Tensor) -> Tensor:
    """log(1 - softmax(logits)) along the last dimension, of two finite logits or more, exact where the softmax nears 1.

    Only the largest probability can: its complement is the sum of all the others, and is computed as that.
    """
    largest = logits.argmax(dim=-1, keepdim=True)
    total = logits.logsumexp(dim=-1, keepdim=True)
    others = logits.scatter(-1, largest, -torch.inf)
    complements = torch.log1p(-(others - total).exp())
    return complements.scatter(-1, largest, others.logsumexp(dim=-1, keepdim=True) - total)


def _check_similarities(loss: str, positives: Tensor, negatives: Tensor) -> None:
    if positives.ndim != 1 or negatives.ndim != 2 or len(negatives) != len(positives):
        raise ValueError(
            f"{loss} takes similarities of positives (B,) and negatives (B, M), got {tuple(positives.shape)} and "
            f"{tuple(negatives.shape)}"
        )
