"""The features of an encoder place by place, as a map: what a decoder of pictures starts from."""

import math

from torch import Tensor
from transformers import PreTrainedModel

from .features import patch_size


def feature_map(encoder: PreTrainedModel, hidden: Tensor, size: tuple[int, int]) -> Tensor:
    """The last hidden state of an encoder as a map.

    Args:
        encoder: The encoder that made it.
        hidden: ``last_hidden_state``: (N, D, h, w), (N, h, w, D) of some encoders of timm, or tokens (N, T, D) of patches row
            by row, with others (of classes, registers) before them.
        size: Height and width of the pictures, in pixels.

    Returns:
        (N, D, h, w).
    """
    if hidden.ndim == 4:
        channels_last = getattr(getattr(encoder, "timm_model", None), "output_fmt", "NCHW") == "NHWC"
        return hidden.permute(0, 3, 1, 2) if channels_last else hidden
    patch = patch_size(encoder)
    if patch is None:  # hierarchical: Swin, of square pictures
        rows = columns = math.isqrt(hidden.shape[1])
    else:
        rows, columns = size[0] // patch, size[1] // patch
    return hidden[:, hidden.shape[1] - rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))
