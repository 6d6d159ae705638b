"""Jigsaw: Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles. Noroozi, Favaro, 2016.

arXiv:1603.09246; details that the paper leaves open are those of the authors' code (MehdiNoroozi/JigsawPuzzleSolver).

Deviations from the paper:
- The features of a tile are the pooled features of the encoder; the paper's fc6 takes the whole feature map.
- No dropout between the layers of the head: its masks would depend on gradient caching and on the number of processes.
- The set of permutations starts with the identity instead of a random one.
- 30 % of the images are gray, as in the paper; in the authors' code half are, and half of the others are desaturated in part.
- Color channels are shifted in grayscale images too, which thereby get color fringes; and tiles are normalized per
  channel.
- Encoder and head have torch's initialization, the authors' have Caffe's.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ...encoders.features import encode, patch_size
from ...errors import under
from ...nn.patches.squares import (
    CELLS,
    corners_in_cells,
    cut_squares,
    lay_out,
    patch_side,
    require_whole_patches,
)
from ...view import View
from ..base import Method, MethodConfig, MethodOutput
from .permutations import LARGEST_SET, permutation_set

PERMUTATIONS, PLACES, SHIFTS = 1, 2, 3  # purpose of the random numbers


@strict
class JigsawConfig(MethodConfig):
    """Configuration of the jigsaw puzzle.

    Args:
        permutations: Number of permutations of the nine tiles, the classes, from 2 to 10,000.
        patch_size: Side of the tiles, in pixels, at most a third of the view's; null: three quarters of that third (the
            paper's 64 of 85), for a ViT rounded down to a multiple of its patch size.
        channel_shift: Maximum shift of each color channel of each tile, in pixels, in each direction.
        tile_dim: Width of the head's layer for each tile (fc6).
        hidden_dim: Width of the head's layer for all nine tiles (fc7).
    """

    model_type = "hfcontrast_jigsaw"

    permutations: int = 1000
    patch_size: int | None = None
    channel_shift: int = 2
    tile_dim: int = 1024
    hidden_dim: int = 4096

    def validate_settings(self):
        """Ranges."""
        if not 2 <= self.permutations <= LARGEST_SET:
            raise ValueError(f"permutations is {self.permutations}, expected a number from 2 to {LARGEST_SET}")
        for name, least in (("patch_size", 1), ("channel_shift", 0), ("tile_dim", 1), ("hidden_dim", 1)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, expected {least} or more")


class Jigsaw(Method):
    """Jigsaw (Noroozi and Favaro, 2016, arXiv:1603.09246): predicts the permutation of nine tiles of an image.

    Every tile goes through the encoder separately (the context-free network). Only the head, which is discarded after training,
    combines the nine tiles.
    """

    config_class = JigsawConfig
    # the central square, 30 % of the images gray (section 3.3)
    views = (
        View(
            name="jigsaw",
            size=255,
            scale=(1.0, 1.0),
            ratio=(1.0, 1.0),
            interpolation="bilinear",
            horizontal_flip=0.0,
            jitter=0.0,
            grayscale=0.3,
        ),
    )
    min_images = 1

    def __init__(self, config: JigsawConfig):
        super().__init__(config)
        self._unit = patch_size(self.encoder) or 1
        require_whole_patches(config.patch_size, self._unit)
        self.tile_head = nn.Sequential(nn.Linear(self.feature_size, config.tile_dim), nn.ReLU())
        self.puzzle_head = nn.Sequential(
            nn.Linear(CELLS * config.tile_dim, config.hidden_dim),
            nn.ReLU(),
            nn.Linear(config.hidden_dim, config.permutations),
        )
        self.register_buffer("orders", permutation_set(config.permutations))
        self.post_init()

    def embed(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Crops (B, V, C, S, S) to the features of their shuffled tiles, (B, V, 9, D)."""
        tiles = standardize_channels(self._cut(pixel_values.flatten(0, 1), index, self.config.channel_shift).float())
        features = encode(self.encoder, tiles.to(pixel_values.dtype).flatten(0, 1))
        return {"h": features.unflatten(0, (*pixel_values.shape[:2], CELLS))}

    def objective(self, embeddings: dict[str, Tensor], index: Tensor) -> MethodOutput:
        """Cross-entropy of the permutations."""
        h = embeddings["h"]
        logits, truth = self._logits(h), self._chosen(index, h.shape[:2].numel())
        accuracy = (logits.argmax(dim=1) == truth).float().mean()
        return MethodOutput(
            loss=F.cross_entropy(logits, truth), metrics={"accuracy": accuracy}, embeddings=h.mean(dim=2).detach()
        )

    def visualize(self, pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The shuffled tiles, the predicted arrangement, and the image."""
        crops, size = pixel_values[:, 0], pixel_values.shape[-1]
        tiles = self._cut(crops, index, 0)
        predicted = self._logits(self.embed(pixel_values[:, :1], index)["h"]).argmax(dim=1)
        middles = torch.full((len(crops), 2 * CELLS), 0.5, device=crops.device)

        def put(cells: Tensor) -> Tensor:
            return lay_out(tiles, *corners_in_cells(middles, cells, size, tiles.shape[-1]), size)

        shuffled = torch.arange(CELLS, device=crops.device).expand(len(crops), -1)
        return {"shuffled": put(shuffled), "solved": put(self.orders[predicted]), "original": crops}

    def _logits(self, features: Tensor) -> Tensor:
        """Features (B, V, 9, D) of tiles to (B * V, permutations)."""
        return self.puzzle_head(self.tile_head(features.flatten(0, 1)).flatten(1)).float()

    def _chosen(self, index: Tensor, count: int) -> Tensor:
        """Index of the permutation of each of ``count`` crops, the same number for every image: (count,) int64."""
        numbers = self.random_uniform(index, count // len(index), PERMUTATIONS)
        return (numbers.flatten() * self.config.permutations).long()

    def _cut(self, crops: Tensor, index: Tensor, shift: int) -> Tensor:
        """Cuts the tiles out of crops (N, C, S, S) and shuffles them: (N, 9, C, side, side)."""
        count, channels, size, _ = crops.shape
        with under("views.jigsaw"):
            side = patch_side(self.config.patch_size, self._unit, size)
        places = self.random_uniform(index, count // len(index) * 2 * CELLS, PLACES).view(count, 2 * CELLS)
        top, left = corners_in_cells(places, self.orders[self._chosen(index, count)], size, side)
        if not shift:
            return cut_squares(crops, top, left, side)
        moves = self.random_uniform(index, count // len(index) * 2 * CELLS * channels, SHIFTS)
        moves = (moves * (2 * shift + 1)).long().view(count, 2, CELLS, channels) - shift
        rows, columns = (
            (corners.unsqueeze(2) + moves[:, axis]).clamp(0, size - side) for axis, corners in enumerate((top, left))
        )
        shifted = [cut_squares(crops[:, [c]], rows[..., c], columns[..., c], side) for c in range(channels)]
        return torch.cat(shifted, dim=2)


def standardize_channels(patches: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Normalizes each channel of each patch (..., H, W) to mean 0 and standard deviation 1."""
    variance, mean = torch.var_mean(patches, dim=(-2, -1), keepdim=True, correction=0)
    return (patches - mean) / (variance + epsilon).sqrt()
