"""ViTMAE as an encoder: without masking of its own, with patches in order, and with initial positions as in the paper."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, ViTConfig, ViTMAEModel, ViTModel

_SHARED_SETTINGS = {
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "layer_norm_eps",
    "image_size",
    "patch_size",
    "num_channels",
    "qkv_bias",
}


def hide_nothing(config: PreTrainedConfig) -> None:
    """Sets the share of patches that the encoder hides by itself to 0."""
    config.mask_ratio = 0.0


def in_order(encoder: PreTrainedModel, pixel_values: Tensor) -> dict[str, Any]:
    """Arguments with which the patches (N, C, H, W) stay in order: it shuffles them by noise, even where it hides none."""
    patches = math.prod(pixel_values.shape[-2:]) // encoder.config.patch_size**2
    return {"noise": torch.arange(patches, device=pixel_values.device).expand(len(pixel_values), -1)}


@torch.no_grad()
def initialize_mae_embeddings(encoder: ViTMAEModel) -> None:
    """Gives a ViTMAE the positions, class token and patch projection that transformers means it to start from.

    Its ``initialize_weights`` returns without doing anything where the patch projection has been initialized, and transformers
    initializes children before their parents: the positions, which are never trained, stay 0. So the mark is taken off.

    After it, position embeddings are fixed 2-D sines and cosines, the column's half first as in the released weights and 0 for
    the class token, which is N(0, initializer_range); the patch projection is Xavier uniform as a linear layer.

    Args:
        encoder: A model with random weights.
    """
    projection: nn.Module = encoder.embeddings.patch_embeddings.projection
    marked = getattr(projection, "_is_hf_initialized", False)
    projection._is_hf_initialized = False
    encoder.embeddings.initialize_weights()
    projection._is_hf_initialized = marked


def vit_of_mae(encoder: ViTMAEModel) -> ViTModel:
    """The ViT that a ViTMAE is when it hides nothing, over the same parameters.

    A ViTMAE hides three quarters of the patches unless its configuration says otherwise, and returns them shuffled even
    then; a ViT returns them in their order, and has heads for classification.
    """
    own = encoder.config.to_dict()
    settings = {name: own[name] for name in ViTConfig.__dataclass_fields__ if name in own and name in _SHARED_SETTINGS}
    with torch.device("meta"):
        vit = ViTModel(ViTConfig(**settings), add_pooling_layer=False)
    if (pooling := getattr(encoder.config, "feature_pooling", None)) is not None:
        vit.config.feature_pooling = pooling
    for name in ("cls_token", "position_embeddings", "patch_embeddings"):
        setattr(vit.embeddings, name, getattr(encoder.embeddings, name))
    vit.layers, vit.layernorm = encoder.layers, encoder.layernorm
    return vit.train(encoder.training)
