"""Negative cosine similarity of predictions and targets, the loss of SimSiam (Chen and He, 2020) and BYOL."""

from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision


@full_precision
def negative_cosine(predictions: Tensor, targets: Tensor) -> Tensor:
    """Negative cosine similarity between predictions and other views' targets (SimSiam, arXiv:2011.10566, eq. 1 and 2).

    With unit vectors p and z, over views v of the predictions and u of the targets::

        mean over images, mean over pairs u != v of  - p_v . stopgrad(z_u)

    BYOL's loss (Grill et al., 2020, arXiv:2006.07733, eq. 2) is 2 + 2 times this, in the mean over its two directions.

    Args:
        predictions: (B, V, D); need not be normalized. A zero vector stays zero: its similarity is 0. Half precision is
            computed in float32.
        targets: (B, T, D) of the first T views, T <= V; no gradient reaches them.

    Returns:
        Scalar in [-1, 1]. Embeddings that are all alike reach the minimum, -1: nothing in the loss prevents a collapse.

    Raises:
        ValueError: There is no pair of different views, T > V, or the shapes differ otherwise.
    """
    images, views, width = predictions.shape
    others = targets.shape[1]
    if targets.shape != (images, others, width):
        raise ValueError(
            f"predictions (B, V, D) and targets (B, T, D) differ in B or D: {tuple(predictions.shape)} and "
            f"{tuple(targets.shape)}"
        )
    if not 1 <= others <= views or views < 2:
        raise ValueError(f"different views are paired: got {others} target and {views} prediction views")
    p = F.normalize(predictions, dim=-1)
    z = F.normalize(targets.detach(), dim=-1)
    similarity = (p.sum(dim=1) * z.sum(dim=1)).sum() - (p[:, :others] * z).sum()
    return -similarity / (images * others * (views - 1))
