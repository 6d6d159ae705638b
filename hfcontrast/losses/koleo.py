"""KoLeo, the Kozachenko-Leonenko entropy estimator as a regularizer (Sablayrolles et al., 2018)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision


@full_precision
def koleo(embeddings: Tensor, eps: float = 1e-8) -> Tensor:
    """KoLeo, the Kozachenko-Leonenko entropy estimator as a regularizer (Sablayrolles et al., 2018, arXiv:1806.03198).

    With unit vectors x, as DINOv2 (arXiv:2304.07193) applies it to the class tokens of one view::

        - mean over i of  log( min_{j != i} |x_i - x_j| + eps )

    Args:
        embeddings: (N, D), N >= 2; need not be normalized. A zero vector stays zero. Half precision is computed in
            float32.
        eps: Keeps the logarithm finite.

    Returns:
        Scalar >= -log 2. Identical embeddings give -log(eps) and a gradient of zero.

    Raises:
        ValueError: Fewer than two samples.
    """
    if embeddings.ndim != 2 or len(embeddings) < 2:
        raise ValueError(f"KoLeo takes embeddings (N, D) of at least 2 samples, got {tuple(embeddings.shape)}")
    x = F.normalize(embeddings, dim=-1)
    with torch.no_grad():
        similarity = x @ x.T
        nearest = similarity.fill_diagonal_(-torch.inf).argmax(dim=1)
    distances: Tensor = torch.linalg.vector_norm(x - x[nearest], dim=-1)
    return -(distances + eps).log().mean()
