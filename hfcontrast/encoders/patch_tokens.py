"""A ViT of transformers run in parts: patches to tokens, and some of the tokens through the layers.

What methods need that show an encoder a part of the image (MAE, I-JEPA) or let a token see only some of the others (AIM). For
models that are made as transformers' ViT is: ``embeddings``, ``layers`` and ``layernorm``.
"""

from collections.abc import Collection

import torch
from accelerate.utils import align_module_device
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..errors import ArgumentError
from ..nn.transformer import added_to_scores
from . import families
from .features import tokens_before_patches


def require_vit(encoder: PreTrainedModel, method: str, model_types: Collection[str] = ()) -> None:
    """Refuses encoders that cannot be run in parts.

    Args:
        encoder: The encoder.
        method: Who runs it in parts, for the error.
        model_types: The architectures that the method takes; empty for all that can be.

    Raises:
        ArgumentError: Names those that can.
    """
    model_types = model_types or families.model_types(as_vit=True)
    if encoder.config.model_type not in model_types:
        raise ArgumentError(
            f"{method} runs the layers of the encoder on a part of the tokens, which '{encoder.config.model_type}' is not made "
            f"for: use a backbone with model_type {' or '.join(model_types)}"
        )


def token_grid(encoder: PreTrainedModel, pixel_values: Tensor) -> tuple[int, int]:
    """Rows and columns of the patches of images (..., H, W)."""
    patch = encoder.config.patch_size
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return pixel_values.shape[-2] // height, pixel_values.shape[-1] // width


def embed_patches(encoder: PreTrainedModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens that the encoder's layers begin with.

    Args:
        encoder: A ViT-like model.
        pixel_values: (N, C, H, W); positions are interpolated where the size is another than the configuration's.

    Returns:
        Tokens of the patches, row by row, with their positions (N, T, D); and the class token with its position, (N, 1, D),
        or (N, 0, D) where the model has none.
    """
    embeddings = encoder.embeddings
    tokens = embeddings.patch_embeddings(pixel_values)
    extra = tokens_before_patches(encoder)
    with align_module_device(embeddings):  # whose own tensors may lie on a disk (device_map)
        positions = embeddings.position_embeddings
        if positions.shape[1] != extra + tokens.shape[1] or pixel_values.shape[-1] != pixel_values.shape[-2]:
            like = tokens.new_empty(1, extra + tokens.shape[1], tokens.shape[2])
            positions = embeddings.interpolate_pos_encoding(like, *pixel_values.shape[-2:])
        first = tokens.new_zeros(len(tokens), 0, tokens.shape[2])
        if extra:
            first = (embeddings.cls_token + positions[:, :1]).expand(len(tokens), -1, -1)
        tokens = tokens + positions[:, extra:]
    dropout = getattr(embeddings, "dropout", None) or torch.nn.Identity()
    return dropout(tokens), dropout(first)


def run_layers(encoder: PreTrainedModel, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """The encoder's layers and its last normalization, on any tokens.

    Args:
        encoder: A ViT-like model.
        tokens: (N, T, D).
        attention_mask: (N or 1, 1, T or 1, T) bool, true where a token (row) may look at another (column).
    """
    if attention_mask is not None and encoder.config._attn_implementation == "eager":
        attention_mask = added_to_scores(attention_mask, tokens.dtype)
    for layer in encoder.layers:
        tokens = layer(tokens, attention_mask)
    return encoder.layernorm(tokens)


def choose(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens (N, T, D) at places (N, K): (N, K, D)."""
    return tokens.gather(1, places.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def enlarge(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask of patches (N, rows, columns) as one of pixels (N, 1, H, W) bool."""
    return F.interpolate(mask.unsqueeze(1).float(), size, mode="nearest") > 0.5
