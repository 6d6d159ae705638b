"""BYOL: Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning. Grill, Strub, Altché, Tallec, Richemond et al., 2020.

arXiv:2006.07733; details that the paper leaves open are those of the authors' code (google-deepmind/deepmind-research, byol).
Heads without batch statistics: BYOL Works Even Without Batch Statistics. Richemond, Grill, Altché, Tallec et al., 2020,
arXiv:2010.10241.

Deviations from the paper:
- Brightness is changed by a factor and contrast around the mean gray, as in torchvision; the authors' code adds a shift and
  stretches every color around its own mean.
- The target starts as a copy of the online network; the authors' starts from different random weights, which made no difference
  according to them.
- No bias before batch normalization, which would cancel it; the authors' code has one.
- Linear layers have torch's initialization, not Haiku's.
- Heads without batch statistics: number of groups, and which of a head's layers are standardized (all), are ours. The
  follow-up paper normalizes the encoder in the same way, which here is a choice of the backbone.
"""

from functools import partial
from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor

from ..encoders import encode
from ..losses import negative_cosine
from ..nn import MLPHead, momentum_schedule, view_by_view
from ..view import View
from .base import BySetting, Method, MethodConfig, MethodOutput, Progress


@strict
class BYOLConfig(MethodConfig):
    """Configuration of BYOL.

    Args:
        projection_dim: Width of the projection and of the prediction.
        hidden_dim: Width of the hidden layer of projector and predictor.
        target_momentum: Momentum of the target network at the start; it rises to 1 along a cosine.
        head_norm: What normalizes the heads' hidden layers: "batch", or without batch statistics "group" or "layer".
        head_groups: Number of groups for "group"; divides hidden_dim.
        weight_standardization: Standardize the weights of the heads' linear layers; the follow-up paper does so with "group".
    """

    model_type = "hfcontrast_byol"
    renamed_settings = {"weight_standardisation": "weight_standardization"}

    projection_dim: int = 256
    hidden_dim: int = 4096
    target_momentum: float | int = 0.996
    head_norm: Literal["batch", "group", "layer"] = "batch"
    head_groups: int = 16
    weight_standardization: bool = False

    def validate_target_momentum(self):
        """A momentum is between 0 and 1."""
        if not 0 <= self.target_momentum <= 1:
            raise ValueError(f"target_momentum is {self.target_momentum}, expected a number between 0 and 1")

    def validate_head_groups(self):
        """Groups have equal sizes."""
        if self.head_norm == "group" and (self.head_groups < 1 or self.hidden_dim % self.head_groups):
            raise ValueError(
                f"head_groups is {self.head_groups}, expected a number that divides hidden_dim, {self.hidden_dim}"
            )


_COLOR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "jitter": 0.8, "grayscale": 0.2}


class BYOL(Method):
    """BYOL (Grill et al., 2020, arXiv:2006.07733): predicts, from one view, a momentum network's projection of the other.

    No negatives. The online network (encoder, projector, predictor) is trained; the target (encoder, projector) is its moving
    average. Encoder and heads run on one view at a time, so batch statistics are those of one view of the global batch.
    """

    config_class = BYOLConfig
    views = (
        View(name="view_1", size=224, scale=(0.08, 1.0), blur=1.0, **_COLOR),
        View(name="view_2", size=224, scale=(0.08, 1.0), blur=0.1, solarize=0.2, **_COLOR),
    )
    min_images = 1  # each image has its own target
    min_images_normalized = BySetting("head_norm", {"batch": 3}, otherwise=1)
    teachers = {"target_encoder": "encoder", "target_projector": "projector"}
    collapse_advice = (
        "raise method.target_momentum (a target that follows too fast collapses with the network), lower optim.lr or lengthen "
        "optim.warmup_epochs, and keep method.head_norm=batch where the batch is not tiny"
    )

    def __init__(self, config: BYOLConfig):
        super().__init__(config)
        head = partial(
            MLPHead,
            bias_last=False,
            norm=None if config.head_norm == "batch" else config.head_norm,
            groups=config.head_groups,
            standardize=config.weight_standardization,
        )
        self.projector = head(self.feature_size, config.hidden_dim, config.projection_dim)
        self.predictor = head(config.projection_dim, config.hidden_dim, config.projection_dim)
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to features of the online and of the target encoder, (B, V, D) each."""
        online = view_by_view(partial(encode, self.encoder), pixel_values)
        with torch.no_grad():
            target = view_by_view(partial(encode, self.target_encoder), pixel_values)
        return {"online": online, "target": target}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """Squared distance of unit vectors, prediction to the other view's target, summed over the directions (eq. 2)."""
        projections = view_by_view(self.projector, embeddings["online"])
        predictions = view_by_view(self.predictor, projections)
        with torch.no_grad():
            targets = view_by_view(self.target_projector, embeddings["target"])
        distance = negative_cosine(predictions, targets)
        return MethodOutput(
            loss=4 + 4 * distance,  # two directions of 2 - 2 cos
            metrics={"positive_similarity": -distance.detach()},
            embeddings=projections.detach(),
        )

    @torch.no_grad()
    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Moves the target network (eq. 1 and section 3.2)."""
        self.update_teachers(momentum_schedule(self.config.target_momentum, progress.fraction))
