"""SigLIP's pairwise sigmoid loss of images and texts (Zhai et al., 2023)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision

AT_ONCE = 2**24  # similarities held at a time, unless a tile is given


@full_precision
def siglip_loss(
    images: Tensor,
    texts: Tensor,
    scale: float | Tensor,
    bias: float | Tensor,
    first: int = 0,
    tile: int | None = None,
) -> Tensor:
    """SigLIP's pairwise sigmoid loss (Zhai et al., 2023, arXiv:2303.15343, eq. 1 and algorithm 1).

    With unit vectors x and y, and z_ij = 1 where image i and text j form a pair and -1 elsewhere::

        1 / B  sum over i, j of  log(1 + exp(-z_ij (s x_i . y_j + b)))

    The matrix of similarities is computed in tiles of rows, and again in the backward pass, so that B x N similarities
    need the memory of tile x N.

    Args:
        images: (B, D); need not be normalized, nor the texts. A zero vector stays zero. Half precision is computed in
            float32.
        texts: (N, D), those of the images and possibly others: on several processes those of all, N >= B.
        scale: s > 0, the inverse temperature; a tensor gets a gradient. SigLIP starts at 10.
        bias: b; a tensor gets a gradient. SigLIP starts at -10.
        first: Number of the text that belongs to the first image; the texts of the others follow it.
        tile: Images at a time; None takes as many as fit into some 16 million similarities.

    Returns:
        Scalar >= 0: the sum over all pairs, divided by the number B of images.

    Raises:
        ValueError: Shapes that do not fit, texts of the images that are not among those given, or a tile below 1.
    """
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1]:
        raise ValueError(
            f"SigLIP pairs images (B, D) with texts (N, D), got {tuple(images.shape)}, {tuple(texts.shape)}"
        )
    if not 0 <= first <= len(texts) - len(images):
        raise ValueError(f"the texts of {len(images)} images cannot begin at number {first} of {len(texts)}")
    if tile is not None and tile < 1:
        raise ValueError(f"tile is {tile}, expected 1 or more")
    images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    scale, bias = (torch.as_tensor(number, dtype=images.dtype, device=images.device) for number in (scale, bias))
    tile = tile or max(1, AT_ONCE // max(len(texts), 1))
    total: Tensor = _PairSigmoids.apply(images, texts, scale, bias, first, tile)
    return total / len(images)


class _PairSigmoids(torch.autograd.Function):
    """The sum of log(1 + exp(-z logit)) over all pairs, in tiles of rows."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, first: int, tile: int) -> Tensor:
        ctx.save_for_backward(images, texts, scale, bias)
        ctx.first, ctx.tile = first, tile
        total = images.new_zeros(())
        for rows in range(0, len(images), tile):
            part = images[rows : rows + tile]
            logits = scale * (part @ texts.T) + bias
            # softplus(-a) = softplus(a) - a for the pairs on the diagonal
            total += F.softplus(logits).sum() - logits.diagonal(first + rows).sum()
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, texts, scale, bias = ctx.saved_tensors
        of_images, of_texts = torch.empty_like(images), torch.zeros_like(texts)
        of_scale, of_bias = torch.zeros_like(scale), torch.zeros_like(bias)
        for rows in range(0, len(images), ctx.tile):
            part = images[rows : rows + ctx.tile]
            similarities = part @ texts.T
            slopes = torch.sigmoid(scale * similarities + bias)
            slopes.diagonal(ctx.first + rows).sub_(1)
            of_bias += slopes.sum()
            of_scale += (slopes * similarities).sum()
            of_images[rows : rows + ctx.tile] = slopes @ texts
            of_texts.addmm_(slopes.T, part)
        return (
            of_images.mul_(scale * gradient),
            of_texts.mul_(scale * gradient),
            of_scale * gradient,
            of_bias * gradient,
            None,
            None,
        )
