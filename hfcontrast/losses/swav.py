"""SwAV's swapped prediction: each view predicts the cluster assignments of the others (Caron et al., 2020)."""

from torch import Tensor

from .precision import full_precision


@full_precision
def swapped_prediction(scores: Tensor, assignments: Tensor, temperature: float = 0.1) -> Tensor:
    """Each view predicts the other views' assignments (SwAV, Caron et al., 2020, arXiv:2006.09882, eq. 1 and 2).

    With scores s of the views v and assignments q of the first T views u::

        mean over images, mean over pairs u != v of  - q_u . log softmax(s_v / t)

    Args:
        scores: (B, V, K), similarities of the views with K prototypes, V >= 2. Half precision is computed in float32.
        assignments: (B, T, K) of the first T views, T <= V, each summing to 1; no gradient reaches them.
        temperature: t > 0.

    Returns:
        Scalar >= 0; log K for scores that are all alike.

    Raises:
        ValueError: There is no pair of different views, T > V, or the shapes differ otherwise.
    """
    images, views, prototypes = scores.shape
    others = assignments.shape[1]
    if assignments.shape != (images, others, prototypes):
        raise ValueError(
            f"scores (B, V, K) and assignments (B, T, K) differ in B or K: {tuple(scores.shape)} and "
            f"{tuple(assignments.shape)}"
        )
    if not 1 <= others <= views or views < 2:
        raise ValueError(f"different views are paired: got assignments of {others} and scores of {views} views")
    assignments = assignments.detach()
    logs = (scores / temperature).log_softmax(dim=-1)
    agreement = (logs.sum(dim=1) * assignments.sum(dim=1)).sum() - (logs[:, :others] * assignments).sum()
    return -agreement / (images * others * (views - 1))
