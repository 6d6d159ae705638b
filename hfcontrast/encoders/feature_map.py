"""The features of an encoder as a map, (B, D, H, W): the input of an image decoder."""

import math

from torch import Tensor
from transformers import PreTrainedModel

from .families import family_of
from .features import patch_size


def feature_map(encoder: PreTrainedModel, hidden: Tensor, size: tuple[int, int]) -> Tensor:
    """The last hidden state of an encoder as a map.

    Args:
        encoder: The encoder that made it.
        hidden: ``last_hidden_state``: (N, D, h, w), (N, h, w, D) of some encoders of timm, or tokens (N, T, D) of patches row
            by row, with others (of classes, registers) before them.
        size: Height and width of the images, in pixels.

    Returns:
        (N, D, h, w).
    """
    if hidden.ndim == 4:
        return hidden.permute(0, 3, 1, 2) if family_of(encoder).channels_last(encoder) else hidden
    patch = patch_size(encoder)
    if patch is None:  # hierarchical: Swin, of square images
        rows = columns = math.isqrt(hidden.shape[1])
    else:
        rows, columns = size[0] // patch, size[1] // patch
    return hidden[:, hidden.shape[1] - rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))
