"""SimMIM: A Simple Framework for Masked Image Modeling. Xie, Zhang, Cao, Lin, Bao, Yao, Dai, Hu, 2021.

arXiv:2111.09886; details that the paper leaves open are those of the authors' code (microsoft/SimMIM).

Deviations from the paper:
- Which patches are hidden is a function of the run's seed, the epoch and the sample; the authors draw anew in every step.
- A ViT of transformers has learned absolute positions, and biases of keys; the authors' has relative ones, and none. Swin v2, BEiT
  and DINOv2 are not among the authors' encoders and start as their architectures do.
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
MASKS = 1  # what the random numbers are for


@strict
class SimMIMConfig(MethodConfig):
    """Configuration of SimMIM.

    Args:
        mask_ratio: Share of the squares that are hidden, above 0 and at most 1; rounded up to whole squares.
        mask_patch_size: Side of the squares, in pixels: a multiple of the encoder's patch size, of which the view's size is
            a multiple.
        pooling: What the features of an encoder with a class token are: the mean of the patches' tokens, which the loss
            trains, or the class token.
    """

    model_type = "hfcontrast_simmim"
    default_backbone = "swin"

    mask_ratio: float | int = 0.6
    mask_patch_size: int = 32
    pooling: Literal["mean", "class"] = "mean"

    def validate_mask(self):
        """Something is hidden."""
        if not 0 < self.mask_ratio <= 1:
            raise ValueError(f"mask_ratio is {self.mask_ratio}, expected a number above 0 and at most 1")
        if self.mask_patch_size < 1:
            raise ValueError(f"mask_patch_size is {self.mask_patch_size}, expected 1 pixel or more")


class SimMIM(Method):
    """SimMIM (Xie et al., 2021, arXiv:2111.09886): a mask token hides large squares, whose raw pixels one linear layer predicts.

    For encoders of transformers that take masks: Swin and Swin v2, ViT, DeiT, BEiT, DINOv2. The encoder sees all tokens,
    the hidden ones as the mask token; the loss is the mean absolute error of the hidden pixels. Its features are to be
    fine-tuned or read by a linear layer; their nearest neighbors say little.
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
        """(B, V, C, H, W) to ``error`` (B, V): mean absolute error over the hidden pixels of each image."""
        crops = pixel_values.flatten(0, 1)
        prediction, hidden = self.predict(crops, index)
        distance = (prediction.float() - crops.float()).abs() * hidden
        error = distance.sum(dim=(1, 2, 3)) / (hidden.sum(dim=(1, 2, 3)) * crops.shape[1])
        return {"error": error.unflatten(0, pixel_values.shape[:2])}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The mean over images: of each as many pixels are hidden."""
        return MethodOutput(loss=embeddings["error"].mean())

    def predict(self, crops: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The pixels as the method has them, (N, C, H, W), and which were hidden from it, (N, 1, H, W) bool.

        Args:
            crops: (B * V, C, H, W), those of an image side by side.
            index: (B,) the images' positions in their data set.
        """
        size = tuple(crops.shape[-2:])
        squares = self.masks(index, len(crops), size)
        hidden = enlarge(squares, size)
        patches = enlarge(squares, (size[0] // self.patch_size, size[1] // self.patch_size))
        tokens = self.encoder(crops, bool_masked_pos=patches.flatten(1)).last_hidden_state
        return self.decoder(feature_map(self.encoder, tokens, size)), hidden

    def masks(self, index: Tensor, count: int, size: tuple[int, int]) -> Tensor:
        """The hidden squares of ``count`` crops of ``size`` pixels, (N, rows, columns) bool; of each as many.

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
        """The encoder, without a mask token that its architecture would not have."""
        if not self.given_mask_token:
            return self.encoder
        encoder = share(self.encoder)
        encoder.embeddings = share(self.encoder.embeddings)
        encoder.embeddings.mask_token = None
        return encoder

    def reset_parameters(self) -> None:
        """The mask token starts as in the authors' code."""
        draw(self.encoder.embeddings.mask_token, 0.02, cut=self.encoder.config.model_type in VITS)

    def visualize(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """What the encoder sees, what the method makes of it, and the image."""
        image = pixel_values[:, 0]
        prediction, hidden = self.predict(image, index)
        return {
            "masked": image.masked_fill(hidden, 0.0),
            "reconstruction": torch.where(hidden, prediction.to(image.dtype), image),
            "original": image,
        }


@torch.no_grad()
def initialize_encoder(encoder: PreTrainedModel) -> None:
    """Initial weights of a Swin, ViT or DeiT, as the authors'; other encoders keep those of their architecture.

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
    """Makes an encoder take masks, and its mask token trainable.

    Returns:
        Whether it had no mask token of its own.

    Raises:
        RecipeError: Its architecture takes none.
    """
    embeddings = getattr(encoder, "embeddings", None)
    if not hasattr(embeddings, "mask_token"):
        raise RecipeError(
            f"SimMIM hides patches by a mask token, which '{encoder.config.model_type}' does not take: use a backbone with "
            "model_type swin, swinv2, vit, deit, beit or dinov2"
        )
    if embeddings.mask_token is not None:
        embeddings.mask_token.requires_grad_(True)
        return False
    width = embeddings.patch_embeddings.projection.out_channels
    embeddings.mask_token = nn.Parameter(torch.zeros(1, 1, width))
    return True
