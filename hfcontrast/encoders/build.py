"""Building an encoder: a native transformers model (timm's through ``TimmWrapperModel``) with the first weights of its authors."""

import difflib
import inspect
import re

from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN

from ..errors import ArgumentError, out_of_memory
from . import own_architectures  # noqa: F401 (so that transformers knows them)
from .families import family_of, family_of_type
from .pretrained import reason

# Fields of hierarchical architectures with an entry for each stage.
_BY_STAGE = ("depths", "hidden_sizes", "num_heads", "num_attention_heads", "embed_dims", "sr_ratios", "mlp_ratios")


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
        raise ArgumentError(
            f"transformers cannot build this {config.model_type!r}: {_misfit(config, error) or reason(error)}"
        ) from error
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


def _misfit(config: PreTrainedConfig, error: Exception) -> str | None:
    """Why transformers fails over a configuration with a bare error: an unknown activation, or stages of different numbers."""
    if isinstance(error, KeyError):
        for name, value in vars(config).items():
            if name.endswith(("_act", "activation", "activation_function")) and value == error.args[0]:
                near = difflib.get_close_matches(str(value), ACT2FN, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "take one such as 'gelu', 'relu' or 'silu'"
                return f"{name} is {value!r}, an activation that transformers does not know; {hint}"
    if isinstance(error, IndexError):
        lengths = {
            name: len(value) for name in _BY_STAGE if isinstance(value := getattr(config, name, None), list | tuple)
        }
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            return f"its stages have different numbers of entries: {told}"
    return None
