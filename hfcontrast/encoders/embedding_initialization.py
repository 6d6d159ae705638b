"""First values of the embeddings of ViTs, where transformers passes over them or draws them otherwise than the authors."""

import torch
from torch import nn
from transformers import PreTrainedModel, ViTMAEModel


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


@torch.no_grad()
def initialize_dinov2_embeddings(encoder: PreTrainedModel) -> None:
    """Class and register tokens N(0, 10^-12), the patch projection as torch's convolution is: as in the authors' code.

    (facebookresearch/dinov2, ``DinoVisionTransformer.init_weights``; transformers draws all of them as linear layers.)

    Args:
        encoder: A Dinov2Model, with registers or without, and random weights.
    """
    embeddings = encoder.embeddings
    embeddings.patch_embeddings.projection.reset_parameters()
    for name in ("cls_token", "register_tokens"):
        if (tokens := getattr(embeddings, name, None)) is not None:
            nn.init.normal_(tokens, std=1e-6)
