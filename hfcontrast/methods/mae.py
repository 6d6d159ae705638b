"""MAE: Masked Autoencoders Are Scalable Vision Learners. He, Chen, Xie, Li, Dollár, Girshick, 2021.

arXiv:2111.06377; details that the paper leaves open are those of the authors' code (facebookresearch/mae).

Deviations from the paper:
- Masks are a function of the run's seed, the epoch and the sample; the authors draw new ones in every step.
- Position embeddings have the halves for row and column in the order of the encoder's architecture (for transformers' ViTMAE,
  that of the released weights); those of the decoder have the row's half first.
"""

from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..encoders.families import family_of
from ..encoders.patch_tokens import (
    choose,
    embed_patches,
    require_vit,
    run_layers,
    token_grid,
)
from ..encoders.vit import fix_positions, sincos_positions, xavier_patch_projection
from ..nn.patches.cut import normalize_patches, patchify, unpatchify
from ..nn.transformer import TransformerBlocks, xavier_linears
from ..view import View
from .base import Method, MethodConfig, MethodOutput

MASKS = 1  # purpose of the random numbers


@strict
class MAEConfig(MethodConfig):
    """Configuration of MAE.

    Args:
        mask_ratio: Share of masked patches, above 0 and below 1.
        normalize_pixels: Normalize the target pixels of each patch to mean 0 and standard deviation 1; false: raw pixels.
        decoder_width: Width of the decoder's tokens, a multiple of 4.
        decoder_depth: Blocks of the decoder; 1 is enough for fine-tuning, linear features need more (table 1a).
        decoder_heads: Attention heads of the decoder.
        pooling: Published features: the class token, as in the paper, or the mean of the patch tokens, which is
            better after a short training.
    """

    model_type = "hfcontrast_mae"
    renamed_settings = {"normalise_pixels": "normalize_pixels"}
    default_backbone = "vit_mae"

    mask_ratio: float | int = 0.75
    normalize_pixels: bool = True
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    pooling: Literal["class", "mean"] = "class"

    def validate_mask_ratio(self):
        """Some patches are masked and some are visible."""
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}, expected a number above 0 and below 1")

    def validate_decoder(self):
        """Position embeddings are sines and cosines of two coordinates; the heads divide the width."""
        if self.decoder_width % 4 or self.decoder_width % self.decoder_heads:
            raise ValueError(
                f"decoder_width is {self.decoder_width}, expected a multiple of 4 and of decoder_heads ({self.decoder_heads})"
            )


class MAE(Method):
    """MAE (He et al., 2021, arXiv:2111.06377): encodes a quarter of the patches and predicts the pixels of the others.

    The encoder, a ViTMAEModel or a ViTModel of transformers, processes only the visible patches; a small decoder, which is
    discarded after training, gets mask tokens in place of the others. Published is a ViTModel, which takes all patches. Its
    features are meant for fine-tuning or linear probes; their kNN accuracy is low.
    """

    config_class = MAEConfig
    views = (View(size=224, scale=(0.2, 1.0), jitter=0.0),)
    min_images = 1
    compiled_modules = ("encoder.layers", "decoder.blocks.layers")  # which run on a subset of the tokens

    def __init__(self, config: MAEConfig):
        super().__init__(config)
        require_vit(self.encoder, "MAE", ("vit_mae", "vit"))
        initialize_vit(self.encoder)
        if config.pooling == "mean":
            self.encoder.config.feature_pooling = "mean"
        patch = self.encoder.config.patch_size
        pixels = self.encoder.config.num_channels * patch**2
        self.decoder = Decoder(config, self.feature_size, pixels, self.encoder.config._attn_implementation)
        self.post_init()

    def embed(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to ``error`` (B, V): mean squared error over the pixels of an image's masked patches."""
        crops = pixel_values.flatten(0, 1)
        prediction, hidden, _ = self.predict(crops, index)
        target = patchify(crops, self.encoder.config.patch_size).float()
        if self.config.normalize_pixels:
            target, *_ = normalize_patches(target)
        error = (prediction.float() - choose(target, hidden)).square().mean(dim=(1, 2))
        return {"error": error.unflatten(0, pixel_values.shape[:2])}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The mean over images, all with the same number of masked patches."""
        return MethodOutput(loss=embeddings["error"].mean())

    def predict(self, crops: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Masks patches and predicts them.

        Args:
            crops: (B * V, C, H, W), those of an image consecutively.
            index: (B,) the images' positions in their data set.

        Returns:
            Predictions (N, M, pixels of a patch) at the masked positions (N, M), and the visible positions (N, K).
        """
        tokens, first = embed_patches(self.encoder, crops)
        count, patches = tokens.shape[:2]
        noise = self.random_uniform(index, count // len(index) * patches, MASKS).view(count, patches)
        order = noise.argsort(dim=1)
        seen, hidden = order.tensor_split([max(int(patches * (1 - self.config.mask_ratio)), 1)], dim=1)
        encoded = run_layers(self.encoder, torch.cat([first, choose(tokens, seen)], dim=1))
        return self.decoder(encoded, order, token_grid(self.encoder, crops)), hidden, seen

    def export_encoder(self) -> PreTrainedModel:
        """The encoder as a ViTModel with shared parameters."""
        return family_of(self.encoder).published(self.encoder)

    def visualize(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The visible patches, the reconstruction, and the image."""
        image, side = pixel_values[:, 0], self.encoder.config.patch_size
        prediction, hidden, _ = self.predict(image, index)
        patches = patchify(image, side)
        if self.config.normalize_pixels:
            _, mean, std = normalize_patches(patches)
            prediction = prediction * choose(std, hidden) + choose(mean, hidden)
        places = hidden.unsqueeze(-1).expand(-1, -1, patches.shape[-1])
        rows = token_grid(self.encoder, image)[0]
        masked = patches.scatter(1, places, 0.0)
        return {
            "masked": unpatchify(masked, side, rows),
            "reconstruction": unpatchify(patches.scatter(1, places, prediction.to(patches.dtype)), side, rows),
            "original": image,
        }


@torch.no_grad()
def initialize_vit(encoder: PreTrainedModel) -> None:
    """Initializes the encoder as in the authors' code; position embeddings are fixed.

    Linear layers as in :func:`~hfcontrast.nn.transformer.xavier_linears`, the patch projection Xavier uniform with the
    default biases of a convolution, the class token N(0, 0.02^2).

    Args:
        encoder: A ViTMAEModel, which has its position embeddings, or a ViTModel, which gets them.
    """
    xavier_linears(encoder)
    encoder.embeddings.patch_embeddings.projection.reset_parameters()
    xavier_patch_projection(encoder)
    nn.init.normal_(encoder.embeddings.cls_token, std=0.02)
    if encoder.embeddings.position_embeddings.requires_grad:
        fix_positions(encoder)


class Decoder(nn.Module):
    """MAE's decoder: mask tokens in place of the masked patches, a few blocks, and a linear layer to the pixels of each patch.

    Args:
        config: The method's configuration.
        feature_size: Width of the encoder's tokens.
        pixels: Numbers to predict for a patch.
        attention: Implementation of the attention; that of the encoder.
    """

    def __init__(self, config: MAEConfig, feature_size: int, pixels: int, attention: str | None = None):
        super().__init__()
        self.embed = nn.Linear(feature_size, config.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.decoder_width))
        self.blocks = TransformerBlocks(
            config.decoder_width, config.decoder_depth, config.decoder_heads, attention=attention
        )
        self.predict = nn.Linear(config.decoder_width, pixels)

    def forward(self, encoded: Tensor, order: Tensor, grid: tuple[int, int]) -> Tensor:
        """Predicts the masked patches.

        Args:
            encoded: (N, 1 + K, D) class token and visible patches.
            order: (N, T) positions of all patches, first the visible ones in their order.
            grid: Rows and columns of the patches.

        Returns:
            (N, T - K, pixels), in the order of the masked positions.
        """
        tokens = self.embed(encoded)
        seen = encoded.shape[1] - 1
        masks = self.mask_token.to(tokens.dtype).expand(len(tokens), order.shape[1] - seen, -1)
        positions = sincos_positions(*grid, tokens.shape[-1]).to(tokens)
        # Attention is permutation-equivariant: the tokens are not reordered, only their position embeddings are.
        patches = torch.cat([tokens[:, 1:], masks], dim=1) + positions[order]
        decoded = self.blocks(torch.cat([tokens[:, :1], patches], dim=1))
        return self.predict(decoded[:, 1 + seen :])

    def reset_parameters(self) -> None:
        """Initializes the weights as in the authors' code."""
        xavier_linears(self)
        nn.init.normal_(self.mask_token, std=0.02)
