"""The contrastive loss of pairs with a margin (Hadsell, Chopra and LeCun, 2006)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .distances import euclidean_distances, mean_where
from .precision import full_precision


@full_precision
def pairwise_contrastive(embeddings: Tensor, labels: Tensor, margin: float = 1.0) -> Tensor:
    """The contrastive loss of pairs (Hadsell, Chopra and LeCun, CVPR 2006, eq. 4), the mean over all pairs of a batch.

    With the Euclidean distance d of a pair::

        1/2 d^2  for a pair of one label,     1/2 max(0, margin - d)^2  for a pair of two

    Args:
        embeddings: (N, D), used as they are: normalize them for distances in [0, 2]. Half precision is computed in
            float32. The N x N distances are held in memory.
        labels: (N,) integers; without classes, the index of the image of each view.
        margin: Distance > 0 beyond which embeddings of different labels do not repel.

    Returns:
        Scalar >= 0, the mean over N * (N - 1) / 2 pairs; 0 for N = 1. Two identical embeddings of different labels cost
        margin^2 / 2 and have a gradient of zero.

    Raises:
        ValueError: Labels that do not fit the embeddings.
    """
    distances = euclidean_distances(embeddings, labels)
    same = labels[:, None] == labels
    losses = torch.where(same, distances.square(), F.relu(margin - distances).square()) / 2
    return mean_where(losses, ~torch.eye(len(labels), dtype=torch.bool, device=labels.device))
