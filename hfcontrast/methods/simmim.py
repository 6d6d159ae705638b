"""SimMIM: A Simple Framework for Masked Image Modeling. Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, 2021.

arXiv:2111.09886; details that the paper leaves open are those of the authors' code (microsoft/SimMIM).

Deviations from the paper:
- Masks are a function of the run's seed, the epoch and the sample; the authors draw new ones in every step.
- A ViT of transformers has learned absolute position embeddings and key biases; the authors' has relative position biases and no key
  biases. Swin v2, BEiT and DINOv2 are not among the authors' encoders and have the initialization of their architectures.
"""

import math
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..encoders.depth_initialization import draw, initialize_by_depth
from ..encoders.feature_map import feature_map
from ..encoders.features import coarsest_stride, is_hierarchical
from ..encoders.patch_tokens import enlarge
from ..encoders.weight_sharing import share
from ..errors import RecipeError
from ..nn.transformer import BRANCH_ENDS
from ..view import View
from .base import Method, MethodConfig, MethodOutput

VITS = ("vit", "deit")
MASKS = 1  # purpose of the random numbers


@strict
class SimMIMConfig(MethodConfig):
    """Configuration of SimMIM.

    Args:
        mask_ratio: Share of masked squares, above 0 and at most 1; rounded up to whole squares.
        mask_patch_size: Side of the squares, in pixels: a multiple of the encoder's patch size; the view's size must be a
            multiple of it.
        pooling: Features of an encoder with a class token: the mean of the patch tokens, which the loss trains, or the
            class token.
    """

    model_type = "hfcontrast_simmim"
    default_backbone = "swin"

    mask_ratio: float | int = 0.6
    mask_patch_size: int = 32
    pooling: Literal["mean", "class"] = "mean"

    def validate_mask(self):
        """Some squares are masked."""
        if not 0 < self.mask_ratio <= 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}, expected a number above 0 and at most 1")
        if self.mask_patch_size < 1:
            raise ValueError(f"mask_patch_size is {self.mask_patch_size}, expected 1 pixel or more")


class SimMIM(Method):
    """SimMIM (Xie et al., 2021, arXiv:2111.09886): masks large squares and predicts their pixels by a linear layer.

    For encoders of transformers that accept masks: Swin and Swin v2, ViT, DeiT, BEiT, DINOv2. The encoder processes all tokens,
    the masked ones as the mask token; the loss is the mean absolute error of the masked pixels. Its features are meant for
    fine-tuning or linear probes; their kNN accuracy is low.
    """

    config_class = SimMIMConfig
    views = (View(size=192, scale=(0.67, 1.0), interpolation="bilinear", jitter=0.0),)
    min_images = 1

    def __init__(self, config: SimMIMConfig):
        super().__init__(config)
        self.given_mask_token = give_mask_token(self.encoder)
        initialize_encoder(self.encoder)
        backbone = self.encoder.config
        if not is_hierarchical(self.encoder) and config.pooling == "mean":
            backbone.feature_pooling = "mean"
        self.patch_size = backbone.patch_size
        self.stride = coarsest_stride(self.encoder)
        self.decoder = nn.Sequential(
            nn.Conv2d(self.feature_size, self.stride**2 * backbone.num_channels, kernel_size=1),
            nn.PixelShuffle(self.stride),
        )
        self.post_init()

    def embed(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to ``error`` (B, V): mean absolute error over the masked pixels of each image."""
        crops = pixel_values.flatten(0, 1)
        prediction, hidden = self.predict(crops, index)
        distance = (prediction.float() - crops.float()).abs() * hidden
        error = distance.sum(dim=(1, 2, 3)) / (hidden.sum(dim=(1, 2, 3)) * crops.shape[1])
        return {"error": error.unflatten(0, pixel_values.shape[:2])}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The mean over images, all with the same number of masked pixels."""
        return MethodOutput(loss=embeddings["error"].mean())

    def predict(self, crops: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The predicted pixels, (N, C, H, W), and which are masked, (N, 1, H, W) bool.

        Args:
            crops: (B * V, C, H, W), those of an image consecutively.
            index: (B,) the images' positions in their data set.
        """
        size = tuple(crops.shape[-2:])
        squares = self.masks(index, len(crops), size)
        hidden = enlarge(squares, size)
        patches = enlarge(squares, (size[0] // self.patch_size, size[1] // self.patch_size))
        tokens = self.encoder(crops, bool_masked_pos=patches.flatten(1)).last_hidden_state
        return self.decoder(feature_map(self.encoder, tokens, size)), hidden

    def masks(self, index: Tensor, count: int, size: tuple[int, int]) -> Tensor:
        """The masked squares of ``count`` crops of ``size`` pixels, (N, rows, columns) bool; the same number in each.

        Raises:
            RecipeError: The squares do not fit.
        """
        side = self.config.mask_patch_size
        if size[0] % side or size[1] % side or side % self.patch_size:
            raise RecipeError(
                f"views of {size[0]} px cannot be masked in squares of {side} px by an encoder with patches of "
                f"{self.patch_size} px: method.mask_patch_size must divide the view and be a multiple of the patch"
            )
        rows, columns = size[0] // side, size[1] // side
        numbers = self.random_uniform(index, count // len(index) * rows * columns, MASKS).view(count, -1)
        ranks = numbers.argsort(dim=1).argsort(dim=1)
        hidden = ranks < math.ceil(rows * columns * self.config.mask_ratio)
        return hidden.unflatten(1, (rows, columns))

    def export_encoder(self) -> PreTrainedModel:
        """The encoder, without a mask token if its architecture has none."""
        if not self.given_mask_token:
            return self.encoder
        encoder = share(self.encoder)
        encoder.embeddings = share(self.encoder.embeddings)
        encoder.embeddings.mask_token = None
        return encoder

    def reset_parameters(self) -> None:
        """Initializes the mask token as in the authors' code."""
        draw(self.encoder.embeddings.mask_token, 0.02, cut=self.encoder.config.model_type in VITS)

    def visualize(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The masked image, the reconstruction, and the image."""
        image = pixel_values[:, 0]
        prediction, hidden = self.predict(image, index)
        return {
            "masked": image.masked_fill(hidden, 0.0),
            "reconstruction": torch.where(hidden, prediction.to(image.dtype), image),
            "original": image,
        }


@torch.no_grad()
def initialize_encoder(encoder: PreTrainedModel) -> None:
    """Initializes a Swin, ViT or DeiT as in the authors' code; other encoders keep the initialization of their architecture.

    Args:
        encoder: The encoder; the standard deviation is its ``initializer_range``.
    """
    std, embeddings = encoder.config.initializer_range, encoder.embeddings
    if encoder.config.model_type == "swin":
        embeddings.patch_embeddings.projection.reset_parameters()  # torch's own
        for name, parameter in encoder.named_parameters():
            if name.endswith("relative_position_bias_table"):
                draw(parameter, std, cut=False)
    elif encoder.config.model_type in VITS:
        initialize_by_depth(encoder, encoder.layers, BRANCH_ENDS, std, cut=True)
        draw(embeddings.cls_token, std, cut=True)
        draw(embeddings.position_embeddings, std, cut=True)


def give_mask_token(encoder: PreTrainedModel) -> bool:
    """Makes an encoder accept masks, with a trainable mask token.

    Returns:
        Whether it had no mask token before.

    Raises:
        RecipeError: Its architecture does not accept masks.
    """
    embeddings = getattr(encoder, "embeddings", None)
    if not hasattr(embeddings, "mask_token"):
        raise RecipeError(
            f"SimMIM masks patches by a mask token, which '{encoder.config.model_type}' does not support: use a backbone with "
            "model_type swin, swinv2, vit, deit, beit, dinov2 or dinov3_vit"
        )
    if embeddings.mask_token is not None:
        embeddings.mask_token.requires_grad_(True)
        return False
    width = embeddings.patch_embeddings.projection.out_channels
    embeddings.mask_token = nn.Parameter(torch.zeros(1, 1, width))
    return True
