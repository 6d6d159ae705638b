"""Building an encoder: a native transformers model (timm's through ``TimmWrapperModel``) with the first weights of its authors."""

import inspect
import re

from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from ..errors import ArgumentError, out_of_memory
from . import own_architectures  # noqa: F401 (so that transformers knows them)
from .families import family_of, family_of_type
from .pretrained import reason


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Builds the encoder of a configuration with the initialization of its architecture.

    What ``AutoModel.from_config`` does is undone where it hurts: ``TimmWrapperModel`` overwrites timm's own
    initialization, a ViTMAE keeps positions and a class token of zeros, and ViT-like models get weights that no loss of
    unmasked images ever reaches, for which distributed training would wait forever: a pooler, which is left out, and a mask
    token, which is frozen; so are modules that make no features (``unused`` of :class:`~.families.Family`). Models with an image and a text tower start as their papers say (see
    :mod:`.clip_initialization`); a pooler in one of their towers is trained. A ViTMAE hides no patches by itself.
    An ImageGPT is trained without a start token in its sequences (see :mod:`.pixel_sequence`).

    Args:
        config: The configuration; what :class:`~.families.Family` calls ``configure`` is set in it.

    Raises:
        ArgumentError: The architecture cannot be built with this configuration.
    """
    family_of_type(config.model_type).configure(config)
    try:
        encoder = AutoModel.from_config(config, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # every architecture fails in its own way over a configuration that makes no sense
        if out_of_memory(error):
            raise
        raise ArgumentError(f"transformers cannot build this {config.model_type!r}: {reason(error)}") from error
    if not next(encoder.parameters()).is_meta:
        if isinstance(tower := getattr(encoder, "vision_model", None), PreTrainedModel):
            family_of(tower).initialize(tower, tower.config)
        family_of(encoder).initialize(encoder, config)
    accepts_no_pooler = "add_pooling_layer" in inspect.signature(type(encoder).__init__).parameters
    pooler = getattr(encoder, "pooler", None)
    if (
        accepts_no_pooler
        and not family_of(encoder).keeps_pooler
        and isinstance(pooler, nn.Module)
        and any(True for _ in pooler.parameters())
    ):
        encoder.pooler = None
    unused = family_of(encoder).unused
    for name, parameter in encoder.named_parameters():
        if name.endswith("mask_token") or (unused is not None and re.search(unused, name)):
            parameter.requires_grad_(False)
    return encoder
