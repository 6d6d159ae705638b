"""PIRL: Self-Supervised Learning of Pretext-Invariant Representations. Misra, van der Maaten, 2019.

arXiv:1912.01991; details that the paper leaves open are those of the authors' code (facebookresearch/vissl).

Deviations from the paper:
- The image and its jigsaw version share their color augmentation, grayscale and flip; the authors' code draws them for each of
  the nine patches. Its random posterizing, sharpening, solarizing and contrast are left out.
- The loss is the paper's equation 3; the authors' code takes InstDisc's NCE, with a constant Z.
- An image is never among its own negatives; the authors' draws may include it.
- The learning rate follows its cosine at every step; in the authors' code once per epoch.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.features import patch_size
from ..errors import under
from ..losses import softmax_nce
from ..nn import MemoryBank, chosen_products, sample_others
from ..nn.patches.squares import corners_in_cells, cut_squares, patch_side, require_whole_patches
from ..view import View
from .base import Method, MethodConfig, MethodOutput, Phase, Progress

_JIGSAW, _NEGATIVES = 1, 2  # purpose of the random numbers
_DRAWS = 27  # for each jigsaw: nine rows, nine columns, nine ranks


@strict
class PIRLConfig(MethodConfig):
    """Configuration of PIRL.

    Args:
        projection_dim: Width of the embeddings, on which the loss is computed and which the memory bank keeps.
        temperature: Temperature of the softmax over an image's candidates, above 0.
        negatives: Images drawn from the bank for each image.
        jigsaw_weight: Weight lambda of the loss of the jigsaw view, in [0, 1]; that of the image is 1 - lambda.
        bank_momentum: Momentum of the rows of the bank, in [0, 1]: the weight of the old row in an update.
        patch_size: Side of the nine patches, in pixels, at most a third of the jigsaw view's; None takes three quarters of
            that third (the paper's 64 of 85), for a ViT rounded down to a multiple of its patch size.
        num_images: Images in the data set; filled in by the training.
    """

    model_type = "hfcontrast_pirl"

    projection_dim: int = 128
    temperature: float | int = 0.07
    negatives: int = 32000
    jigsaw_weight: float | int = 0.5
    bank_momentum: float | int = 0.5
    patch_size: int | None = None
    num_images: int | None = None

    def validate_settings(self):
        """Ranges."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")
        for name in ("jigsaw_weight", "bank_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number between 0 and 1")
        for name in ("negatives", "patch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")

    def training_phases(self, steps_per_epoch: int, batch_size: int) -> list[Phase]:
        """The end of the epoch in which the rows of the bank are still random vectors."""
        return [
            Phase(
                "the first epoch fills the memory bank",
                None,
                steps_per_epoch,
                "no image is compared with its own embedding",
            )
        ]


_DISTORTION = {"jitter": 1.0, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2, "grayscale": 0.2}


class PIRL(Method):
    """PIRL (Misra and van der Maaten, 2019, arXiv:1912.01991): matches an image and its shuffled patches with a memory bank.

    The jigsaw view is cut into 3 x 3 cells and each cell into a patch at a random place; the patches' features are
    concatenated in a random order, one of 9! = 362,880.
    """

    config_class = PIRLConfig
    views = (
        View(name="image", size=224, scale=(0.08, 1.0), interpolation="bilinear", **_DISTORTION),
        View(
            name="jigsaw",
            key="jigsaw_pixel_values",
            size=255,
            scale=(0.6, 1.0),
            interpolation="bilinear",
            **_DISTORTION,
        ),
    )
    min_images = 1

    def __init__(self, config: PIRLConfig):
        super().__init__(config)
        if config.num_images is None or config.num_images < 2:
            raise ValueError(
                f"pirl has a memory bank with a row for every image of the data set, and num_images is {config.num_images}: set "
                "method.num_images to their number, 2 or more (hfcontrast train does it)"
            )
        self._unit = patch_size(self.encoder) or 1
        require_whole_patches(config.patch_size, self._unit)
        width = config.projection_dim
        self.image_head = nn.Linear(self.feature_size, width)  # f in the paper
        self.patch_head = nn.Linear(self.feature_size, width)  # the two layers of g
        self.jigsaw_head = nn.Linear(9 * width, width)
        self.bank = MemoryBank(config.num_images, width, config.bank_momentum)
        self.post_init()

    def embed(self, pixel_values: Tensor, jigsaw_pixel_values: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Images (B, V, C, H, W) to features (B, V, D); jigsaws (B, J, C, S, S) to those of shuffled patches, (B, J, 9, D)."""
        jigsaws = jigsaw_pixel_values.shape[1]
        numbers = self.random_uniform(index, _DRAWS * jigsaws, _JIGSAW, per="step")
        with under("views.jigsaw"):
            side = patch_side(self.config.patch_size, self._unit, jigsaw_pixel_values.shape[-1])
        patches = cut_puzzle(jigsaw_pixel_values.flatten(0, 1), side, numbers.reshape(-1, _DRAWS))
        features = self.encode(patches).unflatten(0, (-1, jigsaws))
        return {"image": self.encode(pixel_values), "patches": features}

    def objective(self, embeddings: dict[str, Tensor], index: Tensor) -> MethodOutput:
        """lambda NCE(m, g(jigsaw)) + (1 - lambda) NCE(m, f(image)) (eq. 5), per image."""
        config = self.config
        f = F.normalize(self.image_head(embeddings["image"]).float(), dim=-1)
        g = self.jigsaw_head(self.patch_head(embeddings["patches"]).flatten(2))
        queries = torch.cat([f, F.normalize(g.float(), dim=-1)], dim=1)
        positives = (queries * self.bank.rows[index].unsqueeze(1).to(queries.dtype)).sum(dim=-1)
        chosen = sample_others(index, config.negatives, config.num_images, *self.random_key(_NEGATIVES))
        negatives = chosen_products(queries, self.bank.rows, chosen)
        image, jigsaw = slice(None, f.shape[1]), slice(f.shape[1], None)
        image_loss, jigsaw_loss = (
            softmax_nce(positives[:, part].flatten(), negatives[:, part].flatten(0, 1), config.temperature)
            for part in (image, jigsaw)
        )
        return MethodOutput(
            loss=config.jigsaw_weight * jigsaw_loss + (1 - config.jigsaw_weight) * image_loss,
            metrics={
                "image_loss": image_loss.detach(),
                "jigsaw_loss": jigsaw_loss.detach(),
                "image_similarity": positives[:, image].mean().detach(),
                "jigsaw_similarity": positives[:, jigsaw].mean().detach(),
            },
            state={"index": index, "f": f.mean(dim=1).detach()},
            embeddings=queries.detach(),
        )

    @torch.no_grad()
    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Updates the images' rows in the bank by f."""
        for output in outputs:
            self.bank.update(output.state["index"], output.state["f"])


def cut_puzzle(pixel_values: Tensor, side: int, numbers: Tensor) -> Tensor:
    """Cuts a patch at a random place out of each of 3 x 3 cells, in a random order.

    Args:
        pixel_values: (B, C, S, S); cells are S // 3 pixels wide.
        side: Side of the patches, in pixels, at most S // 3.
        numbers: (B, 27) in [0, 1): where the patches' upper left corners lie in their cells, first the nine rows, then the
            nine columns; the last nine, by their ranks, shuffle the cells.

    Returns:
        (B, 9, C, side, side), channels last in memory.
    """
    cells = numbers[:, 18:].argsort(dim=1)
    return cut_squares(pixel_values, *corners_in_cells(numbers[:, :18], cells, pixel_values.shape[-1], side), side)
