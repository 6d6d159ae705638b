"""CLIP's symmetric cross-entropy between images and texts (Radford et al., 2021)."""

from torch import Tensor
from torch.nn import functional as F

from .precision import full_precision
from .tiles import cross_log_sums


@full_precision
def clip_loss(images: Tensor, texts: Tensor, temperature: float | Tensor, tile: int | None = None) -> Tensor:
    """CLIP's symmetric cross-entropy between images and their texts (Radford et al., 2021, arXiv:2103.00020, figure 3).

    With unit vectors x and y, the mean of the two terms::

        mean over i of  -log( exp(x_i . y_i / t) / sum_j exp(x_i . y_j / t) )     each image finds its text
        mean over i of  -log( exp(x_i . y_i / t) / sum_j exp(x_j . y_i / t) )     each text finds its image

    Args:
        images: (B, D); need not be normalized, nor the texts. A zero vector stays zero. Half precision is computed in
            float32.
        texts: (B, D).
        temperature: t > 0; a tensor gets a gradient. A model with a logit scale s passes 1 / s; CLIP starts at 0.07 and
            learns down to 0.01.
        tile: As in :func:`~hfcontrast.losses.nt_xent`.

    Returns:
        Scalar; log B for embeddings that are all alike, 0 for B = 1.

    Raises:
        ValueError: The two do not have one shape, or a tile below 1.
    """
    if images.ndim != 2 or images.shape != texts.shape:
        raise ValueError(f"CLIP pairs images (B, D) with texts (B, D), got {tuple(images.shape)}, {tuple(texts.shape)}")
    images, texts = F.normalize(images, dim=-1), F.normalize(texts, dim=-1)
    by_image, by_text = cross_log_sums(images, texts, temperature, columns=True, tile=tile)
    assert by_text is not None  # columns=True
    return (by_image.mean() + by_text.mean()) / 2 - (images * texts).sum(dim=-1).mean() / temperature
