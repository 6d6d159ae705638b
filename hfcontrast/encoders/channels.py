"""Encoders of images of another number of channels than three: their configuration, and released weights made to fit."""

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import ArgumentError
from .config import TIMM
from .families import family_of
from .two_towers import is_two_towers

COLORS = 3


def channels_of(encoder: PreTrainedModel) -> int:
    """How many channels the images of an encoder, or of a model's image tower, have."""
    tower = getattr(encoder, "vision_model", encoder) if is_two_towers(encoder) else encoder
    return family_of(tower).channels(tower)


def set_channels(config: PreTrainedConfig, channels: int) -> None:
    """Makes a configuration one for images of so many channels.

    Args:
        config: Of an encoder of images, random or released.
        channels: How many.

    Raises:
        ArgumentError: The architecture has no setting for it.
    """
    if config.model_type == TIMM:
        config.model_args = {**(config.model_args or {}), "in_chans": channels}
    elif hasattr(config, "num_channels"):
        config.num_channels = channels
    else:
        raise ArgumentError(
            f"the architecture '{config.model_type}' takes images of {COLORS} channels alone (it has no setting num_channels), and not of "
            f"{channels}: take another one, such as resnet, vit, convnext or one of timm"
        )


def adapted(weight: Tensor, wanted: Tensor) -> Tensor | None:
    """A released first layer for colors, made one for another number of channels as timm's ``in_chans`` does it.

    For one channel the weights of the three colors are added up; for others they are repeated, and scaled so that the output stays as large.

    Args:
        weight: (D, 3, h, w), as released.
        wanted: (D, C, h, w), the encoder's.

    Returns:
        (D, C, h, w); None where the two have equal shapes, or differ in anything else.
    """
    others = [size for axis, size in enumerate(weight.shape) if axis != 1]
    fits = weight.ndim == wanted.ndim == 4 and others == [size for axis, size in enumerate(wanted.shape) if axis != 1]
    if not fits or weight.shape[1] != COLORS or wanted.shape[1] == COLORS:
        return None
    from timm.models import adapt_input_conv

    with torch.no_grad():
        return adapt_input_conv(wanted.shape[1], weight.float()).to(weight.dtype)
