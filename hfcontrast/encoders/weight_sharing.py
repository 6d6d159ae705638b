"""Second modules over the parameters of a first, of which parts can be replaced: how a variant of an encoder is published."""

from typing import TypeVar

import torch
from torch import nn
from transformers import ViTConfig, ViTMAEModel, ViTModel

M = TypeVar("M", bound=nn.Module)


def share(module: M) -> M:
    """A module with the same submodules, parameters and buffers, which are the same objects: nothing is copied.

    What is set on it (another submodule, a parameter that becomes None) leaves the original as it is.
    """
    twin = object.__new__(type(module))
    twin.__dict__.update(module.__dict__)
    for kind in ("_modules", "_parameters", "_buffers"):
        twin.__dict__[kind] = dict(module.__dict__[kind])
    return twin


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
