"""Vision transformers as MoCo v3 trains them: fixed 2-D sine-cosine positions, and a patch projection that stays random.

Chen, Xie, He, 2021, arXiv:2104.02057, sections 4.2 and 5; initial values as in the authors' code (facebookresearch/moco-v3,
vits.py). For the ViT-like encoders of transformers and timm: those that begin with a convolution over patches that do not
overlap, and have position embeddings or a class token.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .families import family_of
from .features import is_hierarchical

_POSITIONS = ("pos_embed", "position_embeddings", "position_embedding.weight")
_CLASS_TOKENS = ("cls_token", "class_embedding")
_MOST_EXTRA_TOKENS = 16  # class, distillation and register tokens in front of the patches


def sincos_positions(height: int, width: int, dim: int) -> Tensor:
    """2-D sine-cosine position embeddings: half of the width tells the row, half the column, at D / 4 frequencies.

    Args:
        height: Rows of patches.
        width: Patches in a row.
        dim: Width D, a multiple of 4.

    Returns:
        (height * width, D) float32 for the patches row by row: sines and cosines of the row, then of the column.

    Raises:
        ValueError: D is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"2-D sine-cosine positions need a width that is a multiple of 4, got {dim}")
    frequencies = 10000.0 ** -(torch.arange(dim // 4) * 4 / dim)
    rows = torch.arange(height).repeat_interleave(width)[:, None] * frequencies
    columns = torch.arange(width).repeat(height)[:, None] * frequencies
    return torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=1)


def patch_projection(encoder: PreTrainedModel) -> nn.Conv2d | None:
    """The convolution that projects the patches of a ViT-like encoder; None for other encoders."""
    if is_hierarchical(encoder):
        return None
    first = next((module for module in encoder.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.kernel_size != first.stride or min(first.kernel_size) < 2:
        return None
    tokens = any(name.endswith(_POSITIONS + _CLASS_TOKENS) for name, _ in encoder.named_parameters())
    return first if tokens else None


def xavier_patch_projection(encoder: PreTrainedModel) -> nn.Conv2d | None:
    """Initializes the patch projection of a ViT-like encoder: Xavier uniform, as a linear layer.

    Its biases stay as they are.

    Returns:
        The projection; None for other encoders, which are left as they are.
    """
    projection = patch_projection(encoder)
    if projection is not None:
        nn.init.xavier_uniform_(projection.weight.flatten(1))
    return projection


@torch.no_grad()
def freeze_patch_projection(encoder: PreTrainedModel) -> bool:
    """Initializes the patch projection of a ViT-like encoder (Xavier uniform, biases 0) and freezes it.

    Returns:
        Whether the encoder has one; others are left as they are.
    """
    projection = xavier_patch_projection(encoder)
    if projection is None:
        return False
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)
    projection.requires_grad_(False)
    return True


@torch.no_grad()
def fix_positions(encoder: PreTrainedModel) -> bool:
    """Sets the position embeddings of a ViT-like encoder to 2-D sines and cosines (0 for class and other extra tokens).

    They are no longer trained.

    Returns:
        Whether the encoder has learned, absolute position embeddings; others are left as they are.
    """
    projection = patch_projection(encoder)
    if projection is None or (size := family_of(encoder).image_size(encoder)) is None:
        return False
    sides = (size, size) if isinstance(size, int) else size
    grid = [side // patch for side, patch in zip(sides, projection.kernel_size)]
    for name, parameter in encoder.named_parameters():
        extra = parameter.numel() // projection.out_channels - grid[0] * grid[1]
        if name.endswith(_POSITIONS) and 0 <= extra <= _MOST_EXTRA_TOKENS:
            patches = sincos_positions(grid[0], grid[1], projection.out_channels)
            positions = torch.cat([torch.zeros(extra, projection.out_channels), patches])
            parameter.copy_(positions.view(parameter.shape))
            parameter.requires_grad_(False)
            return True
    return False
