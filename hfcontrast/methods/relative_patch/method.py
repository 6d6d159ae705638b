"""Relative patch: Unsupervised Visual Representation Learning by Context Prediction. Doersch, Gupta, Efros, 2015.

arXiv:1505.05192; details that the paper leaves open are those of the authors' code (cdoersch/deepcontext, train.py).

Deviations from the paper:
- One pair of patches is cut out of an image in a step; the authors use all pairs of neighbors of a grid of a few dozen patches.
- The pair is at a random position of a square crop, of the size of the paper's images; the authors' grid starts at a random
  position of the whole image.
- The features are the pooled features of the encoder; the paper's fc6 takes the whole feature map.
- The noise in place of dropped colors is normal, as in the paper; in the authors' code it is uniform, with one amplitude for all.
- Settings for patch sizes other than 96 px are ours.
- Encoder and heads have torch's initialization, the authors' have Caffe's.
"""

from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.features import encode, patch_size
from ...errors import RecipeError
from ...nn.patches.squares import cut_squares, lay_out, require_whole_patches
from ...view import View
from ..base import Method, MethodConfig, MethodOutput
from .shortcuts import drop_colors, pixelate, project_colors, standardize_patches

PAIRS, SHARPNESS, CHANNELS, NOISE = 1, 2, 3, 4  # purpose of the random numbers
DRAWS = 7  # for each pair: the neighbor, row and column of the pair, and the jitter of both patches
NEIGHBORS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # rows down, columns right


@strict
class RelativePatchConfig(MethodConfig):
    """Configuration of relative patch location.

    Args:
        patch_size: Side of the patches, in pixels; null: 24 % of the view's (the paper's 96 of 400), for a ViT rounded down to
            a multiple of its patch size.
        gap: Pixels between the two patches; null: half of a patch (the paper's 48).
        jitter: Maximum shift of each patch, in pixels, in each direction; null: 7/96 of a patch.
        color: Against chromatic aberration, which reveals the position of a patch: "drop" two of the three channels,
            "project" out the green-magenta axis, or "none" (paper, section 3.1).
        pixelation: Share of the patches that are downsampled, to as few as 100 of 96 x 96 pixels, and upsampled again.
        standardize: Normalize each patch to mean 0 and standard deviation 1, as the authors' code does.
        hidden_dim: Width of the layers between the features and the eight positions: fc6 of each patch, fc7 and fc8 of both.
        image_mean: Mean of each color that images are normalized by; filled in by the training.
        image_std: Standard deviation of each color that they are normalized by; filled in by the training.
    """

    model_type = "hfcontrast_relative_patch"
    renamed_settings = {"standardise": "standardize"}

    patch_size: int | None = None
    gap: int | None = None
    jitter: int | None = None
    color: Literal["drop", "project", "none"] = "drop"
    pixelation: float | int = 0.33
    standardize: bool = True
    hidden_dim: int = 4096
    image_mean: list | None = None
    image_std: list | None = None

    def validate_settings(self):
        """Ranges."""
        for name, least in (("patch_size", 1), ("gap", 0), ("jitter", 0), ("hidden_dim", 1)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} or more")
        if not 0 <= self.pixelation <= 1:
            raise ValueError(f"pixelation is {self.pixelation}, expected a share between 0 and 1")


class RelativePatch(Method):
    """Relative patch (Doersch et al., 2015, arXiv:1505.05192): predicts in which of eight directions a second patch lies.

    Both patches go through the same encoder; layers that are discarded after training classify the concatenated features.
    """

    config_class = RelativePatchConfig
    # 400 px of an image of 150,000 to 450,000 pixels
    views = (View(name="crop", size=400, scale=(0.36, 1.0), ratio=(1.0, 1.0), horizontal_flip=0.0, jitter=0.0),)
    min_images = 1
    min_images_normalized = 3

    def __init__(self, config: RelativePatchConfig):
        super().__init__(config)
        self._unit = patch_size(self.encoder) or 1
        require_whole_patches(config.patch_size, self._unit)
        if config.color == "project" and (config.image_mean is None or config.image_std is None):
            raise ValueError(
                "color=project needs image_mean and image_std: they are filled in by a training; set them yourself otherwise"
            )
        width = config.hidden_dim
        self.patch_head = nn.Sequential(
            nn.Linear(self.feature_size, width), nn.BatchNorm1d(width, affine=False), nn.ReLU()
        )
        self.pair_head = nn.Sequential(
            *(nn.Linear(2 * width, width), nn.BatchNorm1d(width, affine=False), nn.ReLU()),
            *(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, len(NEIGHBORS))),
        )
        self.post_init()

    def embed(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Crops (B, V, C, S, S) to the features of a patch of each and of a neighbor of it, (B, V, 2, D)."""
        crops, size = pixel_values.flatten(0, 1), pixel_values.shape[-1]
        side, *_ = self._sizes(size)
        patches = cut_squares(crops, *self._pairs(index, len(crops), size), side)
        patches = self._without_shortcuts(patches, index)
        features = encode(self.encoder, patches.flatten(0, 1)).unflatten(0, (*pixel_values.shape[:2], 2))
        return {"h": features}

    def objective(self, embeddings: dict[str, Tensor], index: Tensor) -> MethodOutput:
        """Cross-entropy over the eight positions."""
        h = embeddings["h"]
        logits, places = self._logits(h), self._neighbors(index, h.shape[:2].numel())
        accuracy = (logits.argmax(dim=1) == places).float().mean()
        return MethodOutput(
            loss=F.cross_entropy(logits, places), metrics={"accuracy": accuracy}, embeddings=h[:, :, 0].detach()
        )

    def visualize(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """A patch in the center with its neighbor at the true and at the predicted position."""
        crops, size = pixel_values[:, 0], pixel_values.shape[-1]
        side, gap, _ = self._sizes(size)
        patches = cut_squares(crops, *self._pairs(index, len(crops), size), side)
        predicted = self._logits(self.embed(pixel_values[:, :1], index)["h"]).argmax(dim=1)

        def beside(places: Tensor) -> Tensor:
            steps = torch.tensor(NEIGHBORS, device=places.device)[places] * (side + gap)
            corners = torch.stack([torch.zeros_like(steps), steps], dim=1) + (size - side) // 2
            return lay_out(patches, corners[:, :, 0], corners[:, :, 1], size)

        return {
            "image": crops,
            "true place": beside(self._neighbors(index, len(crops))),
            "predicted place": beside(predicted),
        }

    def _logits(self, features: Tensor) -> Tensor:
        """Features (B, V, 2, D) of pairs to (B * V, 8)."""
        fc6 = self.patch_head(features.flatten(0, 2)).unflatten(0, (-1, 2))
        return self.pair_head(fc6.flatten(1)).float()

    def _sizes(self, size: int) -> tuple[int, int, int]:
        """Side of a patch, gap and jitter, for a view of ``size`` pixels."""
        config = self.config
        side = config.patch_size or max(round(0.24 * size) // self._unit, 1) * self._unit
        gap = side // 2 if config.gap is None else config.gap
        jitter = round(side * 7 / 96) if config.jitter is None else config.jitter
        if (least := 2 * side + gap + 2 * jitter) > size:
            raise RecipeError(
                f"a view of {size} px does not hold two patches of {side} px with a gap of {gap} px and a jitter of {jitter} "
                f"px: set views.crop.size to {least} or more, or method.patch_size, method.gap and method.jitter to less"
            )
        return side, gap, jitter

    def _pair_numbers(self, index: Tensor, count: int) -> Tensor:
        return self.random_uniform(index, count // len(index) * DRAWS, PAIRS).view(count, DRAWS)

    def _neighbors(self, index: Tensor, count: int) -> Tensor:
        """Index of the neighbor for each of ``count`` crops, the same number for every image: (count,) int64."""
        return (self._pair_numbers(index, count)[:, 0] * len(NEIGHBORS)).long()

    def _pairs(self, index: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
        """Rows and columns of the upper left corners of the two patches in each crop of ``size`` pixels, (count, 2) each."""
        side, gap, jitter = self._sizes(size)
        numbers = self._pair_numbers(index, count)
        offsets = torch.tensor(NEIGHBORS, device=index.device)[(numbers[:, 0] * len(NEIGHBORS)).long()]
        corners = []
        for axis, step in enumerate((offsets * (side + gap)).unbind(dim=1)):
            room = size - side - 2 * jitter - step.abs()
            first = jitter + (numbers[:, 1 + axis] * (room + 1)).long() + (-step).clamp_min(0)
            moves = (numbers[:, 3 + 2 * axis : 5 + 2 * axis] * (2 * jitter + 1)).long() - jitter
            corners.append(torch.stack([first, first + step], dim=1) + moves)
        return corners[0], corners[1]

    def _without_shortcuts(self, patches: Tensor, index: Tensor) -> Tensor:
        """Patches (N, 2, C, side, side), augmented against shortcuts as configured."""
        config, shape = self.config, patches.shape
        flat = patches.flatten(0, 1)
        count = len(flat) // len(index)

        def numbers(each: int, purpose: int) -> Tensor:
            return self.random_uniform(index, count * each, purpose).view(len(flat), each)

        with torch.autocast(patches.device.type, enabled=False):
            flat = flat.float()
            if config.pixelation:
                flat = pixelate(flat, numbers(2, SHARPNESS), config.pixelation)
            if config.color == "drop":
                kept = (numbers(1, CHANNELS).squeeze(1) * shape[2]).long()
                flat = drop_colors(flat, kept, numbers(flat[0].numel(), NOISE))
            elif config.color == "project":
                flat = project_colors(flat, flat.new_tensor(config.image_mean), flat.new_tensor(config.image_std))
            if config.standardize:
                flat = standardize_patches(flat)
        return flat.to(patches.dtype).view(shape)
