"""Transformer blocks for MAE's decoder and I-JEPA's predictor, made of the ViT layers of transformers."""

import math

import torch
from torch import Tensor, nn
from transformers import ViTConfig
from transformers.models.vit.modeling_vit import ViTLayer

BRANCH_ENDS = ("attention.o_proj", "mlp.fc2")  # the layers that end the residual branches of transformers' ViT
_ONE_MATRIX = ("q_proj", "k_proj", "v_proj")  # in transformers' ViT


class TransformerBlocks(nn.Module):
    """Pre-norm blocks of self-attention and MLP (GELU), with a final normalization; weights are Xavier uniform, biases 0.

    Args:
        width: Width D of the tokens.
        depth: Number of blocks.
        heads: Attention heads; they divide the width.
        mlp_ratio: Width of the hidden layer of an MLP, as a multiple of D.
        attention: Implementation of the attention, as transformers calls it: "sdpa", "eager" or another.
        masked: Whether the blocks are given masks, which "sdpa" and "eager" alone take: any other becomes "sdpa" then.

    Raises:
        ValueError: The heads do not divide the width.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        attention: str | None = "sdpa",
        masked: bool = False,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} attention heads do not divide a width of {width}")
        config = ViTConfig(
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=round(width * mlp_ratio),
            layer_norm_eps=1e-6,
        )
        self.config, self.masked = config, masked
        self.set_attention(attention)
        self.layers = nn.ModuleList(ViTLayer(config) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, tokens: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Tokens (B, T, D) to tokens of the same shape.

        Args:
            tokens: The input.
            attention_mask: (B or 1, 1, T, T) or (B, 1, 1, T) bool, true where a token (row) attends to another (column).
        """
        if attention_mask is not None and self.config._attn_implementation == "eager":
            attention_mask = added_to_scores(attention_mask, tokens.dtype)
        for layer in self.layers:
            tokens = layer(tokens, attention_mask)
        return self.norm(tokens)

    def set_attention(self, name: str | None) -> None:
        """Sets the implementation of the attention.

        Args:
            name: As transformers calls it; None is "sdpa".
        """
        self.config._attn_implementation = "sdpa" if name is None or (self.masked and name != "eager") else name

    def reset_parameters(self) -> None:
        """Initializes the weights."""
        xavier_linears(self)


def added_to_scores(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A bool mask in the form that eager attention takes: 0 where a token is attended to, and the lowest number elsewhere."""
    hidden = torch.finfo(dtype).min
    return torch.zeros_like(attention_mask, dtype=dtype).masked_fill(~attention_mask, hidden)


@torch.no_grad()
def xavier_linears(module: nn.Module) -> None:
    """Initializes the linear layers of a module as MAE's authors do: Xavier uniform, biases 0; normalizations are the identity.

    The projections to queries, keys and values of one attention are initialized as the single matrix (3D, D) of the
    authors' code: between -sqrt(6 / 4D) and sqrt(6 / 4D), instead of sqrt(6 / 2D) for (D, D).
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            part.reset_parameters()
    for part in module.modules():
        projections = [getattr(part, name, None) for name in _ONE_MATRIX]
        if all(isinstance(projection, nn.Linear) for projection in projections):
            outputs = sum(projection.out_features for projection in projections)
            limit = math.sqrt(6 / (outputs + projections[0].in_features))
            for projection in projections:
                nn.init.uniform_(projection.weight, -limit, limit)
