"""Initial values of DINOv2's embeddings, which transformers initializes differently from the authors."""

import torch
from torch import nn
from transformers import PreTrainedModel


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
