"""Triplet loss with mining inside the batch (FaceNet, 2015; Hermans et al., 2017)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .distances import euclidean_distances, mean_where
from .precision import full_precision


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

    - "all": all of them; the mean over those with a loss above 0 (Hermans, section 2, "batch all").
    - "hard": for each anchor its farthest positive and its nearest negative (Hermans, eq. 5, "batch hard").
    - "semi-hard": for each anchor and positive the nearest of the negatives farther away than the positive (FaceNet,
      eq. 4); where there is none, the farthest negative. The mean over the pairs.

    Args:
        embeddings: (N, D), used as they are; FaceNet normalizes them. Half precision is computed in float32. With P
            pairs of anchor and positive, P x N distances are held.
        labels: (N,) integers; without classes, the index of the image of each view.
        margin: >= 0, in units of the distance; FaceNet takes 0.2 with squared distances. None replaces margin and
            maximum by softplus ("soft margin", Hermans).
        mining: Which triplets are used.
        squared: Squared distances, as in FaceNet, instead of distances, as in Hermans.

    Returns:
        Scalar >= 0; 0, with a gradient of zero, where the batch has no triplet. Identical embeddings give the margin
        (log 2 for the soft margin) and a gradient of zero.

    Raises:
        ValueError: Labels that do not fit the embeddings, or an unknown mining.
    """
    if mining not in ("all", "semi-hard", "hard"):
        raise ValueError(f"mining is {mining!r}, expected 'all', 'semi-hard' or 'hard'")
    distances = euclidean_distances(embeddings, labels)
    distances = distances.square() if squared else distances
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if mining == "hard":
        counted = positive.any(dim=1) & ~same.all(dim=1)
        farthest = distances.masked_fill(~positive, -torch.inf).amax(dim=1)
        nearest = distances.masked_fill(same, torch.inf).amin(dim=1)
        return mean_where(_hinge(torch.where(counted, farthest - nearest, 0.0), margin), counted)
    anchors, partners = positive.nonzero(as_tuple=True)
    to_positive, to_others, negative = distances[anchors, partners], distances[anchors], ~same[anchors]
    if mining == "all":
        losses = _hinge(to_positive[:, None] - to_others, margin)
        return mean_where(losses, negative & (losses > 0))
    with torch.no_grad():
        farther = negative & (to_others > to_positive[:, None])
        nearest = to_others.masked_fill(~farther, torch.inf).argmin(dim=1)
        farthest = to_others.masked_fill(~negative, -torch.inf).argmax(dim=1)
        chosen = torch.where(farther.any(dim=1), nearest, farthest)
    return mean_where(_hinge(to_positive - distances[anchors, chosen], margin), negative.any(dim=1))


def _hinge(differences: Tensor, margin: float | None) -> Tensor:
    return F.softplus(differences) if margin is None else F.relu(differences + margin)
