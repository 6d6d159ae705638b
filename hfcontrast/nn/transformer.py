"""Transformer blocks beside an encoder: the decoder of MAE, the predictor of I-JEPA. They are transformers' own ViT layers."""

import torch
from torch import Tensor, nn
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTLayer


class TransformerBlocks(nn.Module):
    """Pre-norm blocks of self-attention and MLP (GELU), and a normalisation at the end; weights are Xavier uniform, biases 0.

    Args:
        width: Width D of the tokens.
        depth: Number of blocks.
        heads: Attention heads; they divide the width.
        mlp_ratio: Width of the hidden layer of an MLP, as a multiple of D.

    Raises:
        ValueError: The heads do not divide the width.
    """

    def __init__(self, width: int, depth: int, heads: int, mlp_ratio: float = 4.0):
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} attention heads do not divide a width of {width}")
        config = ViTConfig(
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=round(width * mlp_ratio),
            layer_norm_eps=1e-6,
        )
        config._attn_implementation = "sdpa"
        self.layers = nn.ModuleList(ViTLayer(config) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Tokens (B, T, D) to tokens of the same shape.

        Args:
            tokens: The input.
            attention_mask: (B or 1, 1, T, T) or (B, 1, 1, T) bool, true where a token (row) may look at another (column).
        """
        for layer in self.layers:
            tokens = layer(tokens, attention_mask)
        return self.norm(tokens)

    def reset_parameters(self) -> None:
        """Initial weights."""
        xavier_linears(self)


@torch.no_grad()
def xavier_linears(module: nn.Module) -> None:
    """Draws the linear layers in a module: Xavier uniform, biases 0, as MAE's authors do; normalisations become the identity."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()
