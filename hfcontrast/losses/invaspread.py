"""InvaSpread: invariant and spreading instance features (Ye et al., 2019)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .nce import log_complements
from .precision import full_precision


@full_precision
def invariant_spreading(images: Tensor, augmented: Tensor, temperature: float, symmetric: bool = False) -> Tensor:
    """Invariant and spreading instance features (Ye et al., 2019, arXiv:1904.03436, eq. 2 to 6).

    With unit vectors f of the images, g of their augmented views, and softmaxes over the batch's images k::

        p(i | g_j) = exp(f_i . g_j / t) / sum_k exp(f_k . g_j / t)
        p(i | f_j) = exp(f_i . f_j / t) / sum_k exp(f_k . f_j / t)

        mean over i of  -log p(i | g_i) - sum_{j != i} log(1 - p(i | f_j))

    An augmented view is classified as its image, and no image is to be classified as another one.

    Args:
        images: (B, D), embeddings of the images; need not be normalized. A zero vector stays zero. Half precision is
            computed in float32. The B x B similarities are held whole.
        augmented: (B, D), embeddings of their augmented views.
        temperature: t > 0; 0.1 in the paper.
        symmetric: The value of the authors' code: each of the 2 B vectors is classified as its partner among all vectors but
            itself, and as none of the others; the mean over the 2 B. Gradients flow through both vectors of each product,
            in the authors' code only through the classified one.

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
    return -(found + log_complements(spread).masked_fill(kept, 0.0).sum(dim=1)).mean()
