"""SupCon, the supervised contrastive loss (Khosla et al., 2020)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import self_log_sums


@full_precision
def supcon(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float,
    form: Literal["out", "in"] = "out",
    tile: int | None = None,
) -> Tensor:
    """Supervised contrastive loss (Khosla et al., 2020, arXiv:2004.11362, eq. 2 and 3).

    With unit vectors z, P(i) the other vectors with the label of i and p(k | i) = exp(z_i . z_k / t) over the sum of
    these for all vectors but i itself::

        L_out = mean over i of  -1 / |P(i)| sum_{k in P(i)} log p(k | i)
        L_in  = mean over i of  -log( 1 / |P(i)| sum_{k in P(i)} p(k | i) )

    With a label of its own for every image, L_out is NT-Xent. The paper recommends L_out; L_in <= L_out.

    Args:
        embeddings: (B, V, D), V >= 1 views; need not be normalized. A zero vector stays zero. Half precision is
            computed in float32.
        labels: (B,) integers.
        temperature: t > 0; the paper takes 0.1.
        form: "out" or "in": whether the sum over the positives is outside or inside the logarithm.
        tile: As in :func:`~hfcontrast.losses.nt_xent`.

    Returns:
        Scalar, the mean over the anchors that have a positive; 0, with a gradient of zero, if none has.

    Raises:
        ValueError: Labels that do not fit the embeddings, an unknown form, or a tile below 1.
    """
    if embeddings.ndim != 3 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            "SupCon takes embeddings (B, V, D) and labels (B,), got "
            f"{tuple(embeddings.shape)} and {tuple(labels.shape)}"
        )
    if form not in ("out", "in"):
        raise ValueError(f"form is {form!r}, expected 'out' or 'in'")
    z = F.normalize(embeddings, dim=-1).flatten(0, 1)
    classes, labels = torch.unique(labels.repeat_interleave(embeddings.shape[1]), return_inverse=True)
    positives = torch.bincount(labels, minlength=len(classes))[labels] - 1
    anchors = positives > 0
    counts = positives.clamp(min=1).to(z.dtype)
    attraction = torch.zeros_like(counts)
    if form == "out":
        # The sum of z_i . z_k over a class is a product with the class's sum: no matrix is needed.
        sums = z.new_zeros(len(classes), z.shape[1]).index_add(0, labels, z)
        attraction = ((sums[labels] - z) * z).sum(dim=1) / (counts * temperature)
    else:
        among_positives = self_log_sums(z, temperature, labels=labels, tile=tile)
        attraction = torch.where(anchors, among_positives, 0.0) - counts.log()
    losses = self_log_sums(z, temperature, tile=tile) - attraction
    # Without any positive (a batch of one vector included) the loss is zero, and so is its gradient.
    return torch.where(anchors, losses, 0.0).sum() / anchors.sum().clamp(min=1)
