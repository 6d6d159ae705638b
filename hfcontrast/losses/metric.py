"""Losses over distances: pairs, triplets and N-pairs, with labels or with an image's number as its label."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision


def _distances(embeddings: Tensor, labels: Tensor) -> Tensor:
    """(N, N) Euclidean distances; not through a matrix product, which loses the small ones to rounding."""
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(f"embeddings (N, D) need labels (N,), got {tuple(embeddings.shape)}, {tuple(labels.shape)}")
    return torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")


def _mean_where(losses: Tensor, counted: Tensor) -> Tensor:
    """Mean over what is counted; 0, with a gradient of zero, where nothing is."""
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)


@full_precision
def pairwise_contrastive(embeddings: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """The contrastive loss of pairs (Hadsell, Chopra and LeCun, CVPR 2006, eq. 4), the mean over all pairs of a batch.

    With the Euclidean distance d of a pair::

        1/2 d^2  for a pair of one label,     1/2 max(0, margin - d)^2  for a pair of two

    Args:
        embeddings: (N, D), used as they are: normalize them for distances within [0, 2]. Half precision is computed in
            float32. The N x N distances are held whole.
        labels: (N,) integers; for views of images, the image's number at each of its views.
        margin: Distance > 0 beyond which different ones do not repel.

    Returns:
        Scalar >= 0, the mean over N * (N - 1) / 2 pairs; 0 for N = 1. Two identical embeddings of different labels cost
        margin^2 / 2 and have, there being no direction apart, a gradient of zero.

    Raises:
        ValueError: Labels that do not fit the embeddings.
    """
    distances = _distances(embeddings, labels)
    same = labels[:, None] == labels
    losses = torch.where(same, distances.square(), F.relu(margin - distances).square()) / 2
    return _mean_where(losses, ~torch.eye(len(labels), dtype=torch.bool, device=labels.device))


@full_precision
def triplet(
    embeddings: Tensor,
    labels: Tensor,
    margin: float | None = 0.2,
    mining: Literal["all", "semi-hard", "hard"] = "hard",
    squared: bool = False,
) -> Tensor:
    """Triplet loss with mining inside the batch (FaceNet, arXiv:1503.03832; Hermans et al., 2017, arXiv:1703.07737).

    With the distances d of an anchor a to a positive p of its label and a negative n of another one::

        max(0, d(a, p) - d(a, n) + margin)

    over these triplets:

    - "all": every one; the mean over those that are not yet 0 (Hermans, section 2, "batch all").
    - "hard": for each anchor its farthest positive and its nearest negative (Hermans, eq. 5, "batch hard").
    - "semi-hard": for each anchor and positive the nearest of the negatives farther away than the positive (FaceNet,
      eq. 4); where there is none, the farthest negative. The mean over the pairs.

    Args:
        embeddings: (N, D), used as they are; FaceNet normalizes them. Half precision is computed in float32. With P
            pairs of anchor and positive, P x N distances are held.
        labels: (N,) integers; for views of images, the image's number at each of its views.
        margin: >= 0, in units of the distance; FaceNet takes 0.2 with squared distances. None puts softplus in the
            place of the margin and the maximum ("soft margin", Hermans).
        mining: Which triplets count.
        squared: Squared distances, as in FaceNet, instead of distances, as in Hermans.

    Returns:
        Scalar >= 0; 0, with a gradient of zero, where the batch has no triplet. Identical embeddings give the margin
        (log 2 for the soft margin) and a gradient of zero.

    Raises:
        ValueError: Labels that do not fit the embeddings, or an unknown mining.
    """
    if mining not in ("all", "semi-hard", "hard"):
        raise ValueError(f"mining is {mining!r}, expected 'all', 'semi-hard' or 'hard'")
    distances = _distances(embeddings, labels)
    distances = distances.square() if squared else distances
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if mining == "hard":
        counted = positive.any(dim=1) & ~same.all(dim=1)
        farthest = distances.masked_fill(~positive, -torch.inf).amax(dim=1)
        nearest = distances.masked_fill(same, torch.inf).amin(dim=1)
        return _mean_where(_hinge(torch.where(counted, farthest - nearest, 0.0), margin), counted)
    anchors, partners = positive.nonzero(as_tuple=True)
    to_positive, to_others, negative = distances[anchors, partners], distances[anchors], ~same[anchors]
    if mining == "all":
        losses = _hinge(to_positive[:, None] - to_others, margin)
        return _mean_where(losses, negative & (losses > 0))
    with torch.no_grad():
        farther = negative & (to_others > to_positive[:, None])
        nearest = to_others.masked_fill(~farther, torch.inf).argmin(dim=1)
        farthest = to_others.masked_fill(~negative, -torch.inf).argmax(dim=1)
        chosen = torch.where(farther.any(dim=1), nearest, farthest)
    return _mean_where(_hinge(to_positive - distances[anchors, chosen], margin), negative.any(dim=1))


def _hinge(differences: Tensor, margin: float | None) -> Tensor:
    return F.softplus(differences) if margin is None else F.relu(differences + margin)


@full_precision
def n_pair(anchors: Tensor, positives: Tensor, penalty: float = 0.0) -> Tensor:
    """Multi-class N-pair loss (Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss", NIPS 2016).

    With one pair of anchor f and positive g from each of N classes::

        mean over i of  log(1 + sum_{j != i} exp(f_i . g_j - f_i . g_i))   +  penalty * mean of |f|^2 and |g|^2

    The embeddings are not normalized: their length is the inverse temperature, and the penalty keeps it small.

    Args:
        anchors: (N, D). Half precision is computed in float32.
        positives: (N, D), in the order of the anchors; no two of one class.
        penalty: Weight >= 0 of the squared lengths.

    Returns:
        Scalar >= 0; log N for embeddings that are all alike and for zero vectors, 0 for N = 1 (without penalty).

    Raises:
        ValueError: The two do not have one shape.
    """
    if anchors.ndim != 2 or anchors.shape != positives.shape:
        raise ValueError(f"N-pair takes (N, D) and (N, D), got {tuple(anchors.shape)} and {tuple(positives.shape)}")
    loss = F.cross_entropy(anchors @ positives.T, torch.arange(len(anchors), device=anchors.device))
    if penalty:
        loss = loss + penalty * (anchors.square().sum() + positives.square().sum()) / (2 * len(anchors))
    return loss
