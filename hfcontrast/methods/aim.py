"""AIM: Scalable Pre-training of Large Autoregressive Image Models. El-Nouby, Klein, Zhai, Bautista, Toshev, Shankar, and others, 2024.

arXiv:2401.08541. The authors published their encoder (apple/ml-aim), but not the code of the training: choices that neither that
nor the paper states are ours and listed below.

Deviations from the paper:
- A ViT of transformers has a class token, which precedes the patches and is part of the prefix. (A backbone with
  ``model_type: ijepa`` is a ViT without one.) Its linear layers and the patch projection have biases, and no normalization
  follows the projection; ``qkv_bias: false`` in the backbone is the paper's.
- Position embeddings have the row's half first, the authors' the column's.
- The prefix is a function of the run's seed, the epoch and the sample; the authors draw new ones in every step.
- The features for evaluation are the mean of the last layer's patch tokens; the authors train an attentive probe on the mean of
  the last six layers.
Not stated, ours:
- Every patch after a prefix has the same weight: the loss is their mean over the whole batch, not over each image first.
- The blocks of the head are residual, pre-norm MLPs between a linear map to their width and one to the pixels. Positions are
  added after that first map.
- The initialization is MAE's, Xavier uniform; the authors' code states only that of the patch projection, which is the same.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from ..encoders.patch_tokens import (
    embed_patches,
    require_vit,
    run_layers,
    token_grid,
)
from ..encoders.vit import fix_positions, sincos_positions, xavier_patch_projection
from ..errors import RecipeError
from ..nn.distributed import mean_of_terms
from ..nn.patches.cut import normalize_patches, patchify, unpatchify
from ..nn.transformer import xavier_linears
from ..view import View
from .base import Method, MethodConfig, MethodOutput

PREFIX = 1  # what the random numbers are for


@strict
class AIMConfig(MethodConfig):
    """Configuration of AIM.

    Args:
        causal: Plain causal attention, without a prefix of bidirectional attention.
        head_blocks: MLP blocks of the head, which processes each patch separately.
        head_width: Width of the head, a multiple of 4.
    """

    model_type = "hfcontrast_aim"
    default_backbone = "vit"

    causal: bool = False
    head_blocks: int = 12
    head_width: int = 2048

    def validate_head(self):
        """Positions are sines and cosines of two coordinates."""
        if self.head_blocks < 0:
            raise ValueError(f"head_blocks is {self.head_blocks}, expected 0 or more")
        if self.head_width < 4 or self.head_width % 4:
            raise ValueError(f"head_width is {self.head_width}, expected a multiple of 4")


class AIM(Method):
    """AIM (El-Nouby et al., 2024, arXiv:2401.08541): a ViT predicts the pixels of the next patch, row by row.

    A random number of first patches is the prefix, with bidirectional attention and no prediction. Each later patch attends to
    the patches before it. So the encoder also learns bidirectional attention, with which it is published: without any mask.
    """

    config_class = AIMConfig
    views = (View(size=224, scale=(0.4, 1.0), jitter=0.0),)
    min_images = 1
    compiled_modules = ("encoder.layers",)  # which are run with a mask

    def __init__(self, config: AIMConfig):
        super().__init__(config)
        require_vit(self.encoder, "AIM", ("vit", "ijepa"))
        xavier_linears(self.encoder)
        xavier_patch_projection(self.encoder)
        fix_positions(self.encoder)
        self.encoder.config.feature_pooling = "mean"
        pixels = self.encoder.config.num_channels * self.encoder.config.patch_size**2
        self.head = PixelHead(self.feature_size, config.head_width, config.head_blocks, pixels)
        self.post_init()

    def embed(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to ``error`` (B,), the sum of mean squared errors of ``predicted`` (B,) patches."""
        count = pixel_values.shape[1]
        crops = pixel_values.flatten(0, 1)
        patches = patchify(crops, self.encoder.config.patch_size).float()
        if patches.shape[1] < 2:
            raise RecipeError("AIM predicts a patch from those before it, and an image of this size has only one")
        share = self.random_uniform(index, count, PREFIX).flatten()
        prefix = 1 + (share * (patches.shape[1] - 1)).long()  # uniform in 1..T - 1
        if self.config.causal:
            prefix = torch.zeros_like(prefix)
        hidden = self.encode_in_order(crops, prefix)
        # The patch at position k is predicted at position k - 1; the first one has no predecessor.
        places = torch.arange(1, patches.shape[1], device=crops.device)
        wanted = places >= prefix.unsqueeze(1)
        target, *_ = normalize_patches(patches)
        prediction = self.head(hidden, token_grid(self.encoder, crops), wanted)
        squared = (prediction.float() - target[:, 1:][wanted]).square().mean(dim=-1)
        errors = squared.new_zeros(wanted.shape).masked_scatter(wanted, squared)
        return {
            "error": errors.unflatten(0, (-1, count)).sum(dim=(1, 2)),
            "predicted": wanted.unflatten(0, (-1, count)).sum(dim=(1, 2)),
        }

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The mean over all predicted patches of the global batch (section 3.1)."""
        return MethodOutput(
            loss=mean_of_terms(embeddings["error"], embeddings["predicted"]),
            metrics={"predicted_patches": embeddings["predicted"].float().mean()},
        )

    def encode_in_order(self, crops: Tensor, prefix: Tensor) -> Tensor:
        """Features of patches, each of which attends to the prefix and to the patches before it (section 3.2).

        Args:
            crops: (N, C, H, W).
            prefix: (N,) number of patches in the prefix.

        Returns:
            (N, T - 1, D), of all patches but the last.
        """
        tokens, first = embed_patches(self.encoder, crops)
        extra, count = first.shape[1], first.shape[1] + tokens.shape[1]
        places = torch.arange(count, device=crops.device)
        mask = (places <= places.unsqueeze(1)) | (places < extra + prefix.view(-1, 1, 1))
        hidden = run_layers(self.encoder, torch.cat([first, tokens], dim=1), mask.unsqueeze(1))
        return hidden[:, extra:-1]

    def visualize(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """The prefix, here the first third; each later patch as predicted from the true ones before it; the original."""
        image, side = pixel_values[:, 0], self.encoder.config.patch_size
        patches = patchify(image, side).float()
        _, mean, std = normalize_patches(patches)
        grid = token_grid(self.encoder, image)
        length = max(patches.shape[1] // 3, 1)
        prefix = torch.full((len(image),), 0 if self.config.causal else length, device=image.device)
        hidden = self.encode_in_order(image, prefix)
        every = torch.ones(hidden.shape[:2], dtype=torch.bool, device=image.device)
        predicted = self.head(hidden, grid, every).float().view(*hidden.shape[:2], -1) * std[:, 1:] + mean[:, 1:]
        known, rest = patches[:, :length], patches[:, length:]
        return {
            "prefix": unpatchify(torch.cat([known, torch.zeros_like(rest)], dim=1), side, grid[0]),
            "predicted": unpatchify(torch.cat([known, predicted[:, length - 1 :]], dim=1), side, grid[0]),
            "original": image,
        }


class PixelHead(nn.Module):
    """AIM's head: maps the features of each patch, separately, to the pixels of the next patch.

    Args:
        feature_size: Width D of the encoder's tokens.
        width: Width of the blocks.
        blocks: Number of residual MLP blocks.
        pixels: Numbers to predict.
    """

    def __init__(self, feature_size: int, width: int, blocks: int, pixels: int):
        super().__init__()
        self.width = width
        self.embed = nn.Linear(feature_size, width, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width, eps=1e-6),
                nn.Linear(width, 4 * width, bias=False),
                nn.GELU(),
                nn.Linear(4 * width, width, bias=False),
            )
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, pixels, bias=False)

    def forward(self, hidden: Tensor, grid: tuple[int, int], wanted: Tensor) -> Tensor:
        """Predicts some patches.

        Args:
            hidden: (N, T - 1, D) features of all patches but the last.
            grid: Rows and columns of the patches.
            wanted: (N, T - 1) bool, the positions at which the next patch is predicted.

        Returns:
            (M, pixels), of the wanted ones in their order.
        """
        positions = sincos_positions(*grid, self.width).to(hidden.device)[wanted.nonzero()[:, 1]]
        tokens = self.embed(hidden[wanted])
        tokens = tokens + positions.to(tokens.dtype)
        for block in self.blocks:
            tokens = tokens + block(tokens)
        return self.predict(self.norm(tokens))

    def reset_parameters(self) -> None:
        """Initial weights."""
        xavier_linears(self)
