"""Losses that tell an image's other views, its label's images or its caption from all others."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import cross_log_sums, mean_log_sum, self_log_sums

# All of these take the whole batch's embeddings, normalize them to unit length themselves (a zero vector stays zero:
# its similarity with everything is 0) and hold the matrix of similarities in tiles where it is large: see tiles.py.


def _pair_sum(z: Tensor) -> Tensor:
    """Sum of z_v . z_w over all ordered pairs of different views of one image: all pairs less each with itself."""
    return z.sum(dim=1).square().sum() - z.square().sum()


def _check_views(loss: str, embeddings: Tensor) -> None:
    if embeddings.ndim != 3 or embeddings.shape[1] < 2:
        got = embeddings.shape[1] if embeddings.ndim == 3 else f"a tensor of shape {tuple(embeddings.shape)}"
        raise ValueError(f"{loss} compares views of one image, (B, V, D), and needs at least 2, got {got}")


@full_precision
def nt_xent(embeddings: Tensor, temperature: float, tile: int | None = None) -> Tensor:
    """NT-Xent, the normalized temperature-scaled cross-entropy of SimCLR (Chen et al., 2020, arXiv:2002.05709, eq. 1).

    With unit vectors z, for an anchor i and its positive j::

        l(i, j) = -log( exp(z_i . z_j / t) / sum_{k != i} exp(z_i . z_k / t) )

    and the mean of it over all ordered pairs of views of one image. With more than two views an image's other views
    are each a positive in turn and all remain in the denominator.

    Args:
        embeddings: (B, V, D), V views of each of B images, V >= 2; need not be normalized. A zero vector stays zero
            (its similarity with everything is 0). Half precision is computed in float32.
        temperature: t > 0.
        tile: Rows and columns of the similarity matrix held at a time; None holds it whole while it is small and in
            tiles above. The value does not depend on it.

    Returns:
        Scalar, the mean over B * V * (V - 1) pairs. For B = 1 and V = 2 there is no negative and the loss is 0.

    Raises:
        ValueError: Fewer than two views, or a tile below 1.
    """
    _check_views("NT-Xent", embeddings)
    images, views, _ = embeddings.shape
    z = F.normalize(embeddings, dim=-1)
    denominators = self_log_sums(z.flatten(0, 1), temperature, tile=tile).mean()
    return denominators - _pair_sum(z) / (temperature * images * views * (views - 1))


@full_precision
def decoupled(embeddings: Tensor, temperature: float, sigma: float | None = None, tile: int | None = None) -> Tensor:
    """DCL, contrastive learning without the positives in the denominator (Yeh et al., 2021, arXiv:2110.06848).

    With unit vectors z, for an anchor i and its positive j::

        l(i, j) = -w_ij z_i . z_j / t + log sum_{k of other images} exp(z_i . z_k / t)

    and the mean of it over all ordered pairs of views of one image. DCL has w = 1. DCLW gives pairs that agree already
    less weight: w_ij = 2 - exp(z_i . z_j / sigma) / (mean of exp(z_i . z_j / sigma) over the images of the batch).

    Args:
        embeddings: (B, V, D), B >= 2 images, V >= 2 views; need not be normalized. A zero vector stays zero. Half
            precision is computed in float32.
        temperature: t > 0; the paper takes 0.1.
        sigma: None for DCL; for DCLW a number above 0, 0.5 in the paper.
        tile: As in :func:`nt_xent`.

    Returns:
        Scalar, the mean over B * V * (V - 1) pairs; unlike NT-Xent it can be negative. Embeddings that are all alike
        give log(V * (B - 1)).

    Raises:
        ValueError: Fewer than two views, a single image (there is no negative), or a tile below 1.
    """
    _check_views("DCL", embeddings)
    images, views, _ = embeddings.shape
    if images < 2:
        raise ValueError("DCL has nothing but other images in its denominator and needs at least 2 images, got 1")
    z = F.normalize(embeddings, dim=-1)
    denominators = self_log_sums(z.flatten(0, 1), temperature, group=views, tile=tile).mean()
    if sigma is None:
        pairs = _pair_sum(z)
    else:
        similarity = z @ z.mT
        weights = 2 - images * (similarity / sigma).softmax(dim=0)
        pairs = (weights * similarity)[:, ~torch.eye(views, dtype=torch.bool, device=z.device)].sum()
    return denominators - pairs / (temperature * images * views * (views - 1))


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
        form: "out" or "in": where the sum over the positives stands, outside or inside the logarithm.
        tile: As in :func:`nt_xent`.

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
    classes, labels = labels.repeat_interleave(embeddings.shape[1]).unique(return_inverse=True)
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
    # Where nobody has a positive, a batch of one vector included, what is left is zero, and so is its gradient.
    return torch.where(anchors, losses, 0.0).sum() / anchors.sum().clamp(min=1)


@full_precision
def info_nce(queries: Tensor, keys: Tensor, temperature: float | Tensor, tile: int | None = None) -> Tensor:
    """InfoNCE: each query finds its key among all keys (van den Oord et al., 2018, arXiv:1807.03748, eq. 4).

    With unit vectors q and k::

        mean over i of  -log( exp(q_i . k_i / t) / sum_j exp(q_i . k_j / t) )

    Args:
        queries: (B, D); need not be normalized, nor the keys. A zero vector stays zero. Half precision is computed in
            float32.
        keys: (M, D), M >= B; the first B belong to the queries, in order, the others are negatives of all.
        temperature: t > 0; a tensor gets a gradient.
        tile: Queries compared with all keys at a time, at most; None as in :func:`nt_xent`.

    Returns:
        Scalar; log M for embeddings that are all alike, 0 for B = M = 1, where there is no negative. A gradient reaches
        the queries and the keys.

    Raises:
        ValueError: Fewer keys than queries, another width, or a tile below 1.
    """
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1] or len(keys) < len(queries):
        raise ValueError(
            "InfoNCE takes queries (B, D) and keys (M, D) with a key for every query, M >= B, got "
            f"{tuple(queries.shape)} and {tuple(keys.shape)}"
        )
    queries, keys = F.normalize(queries, dim=-1), F.normalize(keys, dim=-1)
    positives = (queries * keys[: len(queries)]).sum(dim=-1)
    return mean_log_sum(queries, keys, temperature, tile) - (positives / temperature).mean()


@full_precision
def queue_info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float, tile: int | None = None) -> Tensor:
    """InfoNCE with a queue of earlier keys as the negatives (MoCo, He et al., 2019, arXiv:1911.05722, eq. 1).

    With unit vectors q, k and n::

        mean over i of  -log( exp(q_i . k_i / t) / (exp(q_i . k_i / t) + sum_j exp(q_i . n_j / t)) )

    The batch's other keys are no negatives: that is :func:`info_nce`.

    Args:
        queries: (B, D); need not be normalized, nor keys nor queue. A zero vector stays zero, so slots of a queue not
            yet filled count as negatives at right angles. Half precision is computed in float32.
        keys: (B, D), the positives; MoCo computes them without gradient.
        queue: (K, D), K >= 0; no gradient reaches it. An empty one leaves no negative and a loss of 0.
        temperature: t > 0; 0.07 in the paper, 0.2 in MoCo v2.
        tile: As in :func:`nt_xent`.

    Returns:
        Scalar; log(1 + K) for embeddings that are all alike.

    Raises:
        ValueError: Shapes that do not fit, or a tile below 1.
    """
    if queries.ndim != 2 or queries.shape != keys.shape or queue.ndim != 2 or queue.shape[1] != queries.shape[1]:
        raise ValueError(
            "the queue form of InfoNCE takes queries (B, D), keys (B, D) and a queue (K, D), got "
            f"{tuple(queries.shape)}, {tuple(keys.shape)} and {tuple(queue.shape)}"
        )
    queries, keys, queue = (F.normalize(vectors, dim=-1) for vectors in (queries, keys, queue.detach()))
    positives = (queries * keys).sum(dim=-1) / temperature
    negatives, _ = cross_log_sums(queries, queue, temperature, tile=tile)
    return (torch.logaddexp(positives, negatives) - positives).mean()


@full_precision
def clip_loss(images: Tensor, texts: Tensor, temperature: float | Tensor, tile: int | None = None) -> Tensor:
    """CLIP's symmetric cross-entropy between images and their texts (Radford et al., 2021, arXiv:2103.00020, figure 3).

    With unit vectors x and y, half of each::

        mean over i of  -log( exp(x_i . y_i / t) / sum_j exp(x_i . y_j / t) )     each image finds its text
        mean over i of  -log( exp(x_i . y_i / t) / sum_j exp(x_j . y_i / t) )     each text finds its image

    Args:
        images: (B, D); need not be normalized, nor the texts. A zero vector stays zero. Half precision is computed in
            float32.
        texts: (B, D).
        temperature: t > 0; a tensor gets a gradient. A model with a logit scale s passes 1 / s; CLIP starts at 0.07 and
            learns down to 0.01.
        tile: As in :func:`nt_xent`.

    Returns:
        Scalar; log B for embeddings that are all alike, 0 for B = 1.

    Raises:
        ValueError: The two do not have one shape, or a tile below 1.
    """
    if images.ndim != 2 or images.shape != texts.shape:
        raise ValueError(f"CLIP pairs images (B, D) with texts (B, D), got {tuple(images.shape)}, {tuple(texts.shape)}")
    images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    by_image, by_text = cross_log_sums(images, texts, temperature, columns=True, tile=tile)
    return (by_image.mean() + by_text.mean()) / 2 - (images * texts).sum(dim=-1).mean() / temperature
