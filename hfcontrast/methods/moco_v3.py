"""MoCo v3: An Empirical Study of Training Self-Supervised Vision Transformers. Chen, Xie, He, 2021.

arXiv:2104.02057; details that the paper leaves open are those of the authors' code (facebookresearch/moco-v3).

Deviations from the paper:
- The momentum encoder is updated after the optimizer's step with the momentum of that step, the authors' before the next forward
  pass with the momentum of the next step.
- The blur is a true Gaussian of the drawn standard deviation; the authors' PIL filter approximates one by box filters.
- The initial weights of the transformer blocks are those of the architecture; timm's ViTs have the authors' (Xavier uniform)
  with ``model_args: {weight_init: moco}``.
"""

from functools import partial

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from torch.nn import functional as F

from ..encoders import encode
from ..encoders.vit import fix_positions, freeze_patch_projection
from ..losses import info_nce
from ..nn import MLPHead, gather, momentum_schedule, rank, view_by_view
from ..view import View
from .base import Method, MethodConfig, MethodOutput, Progress
from .moco import check_two_views


@strict
class MoCoV3Config(MethodConfig):
    """Configuration of MoCo v3.

    Args:
        projection_dim: Width of queries and keys.
        hidden_dim: Width of the hidden layers of projector and predictor.
        projector_layers: Linear layers of the projector: 3 for the paper's ViTs, 2 for its ResNets.
        predictor_layers: Linear layers of the predictor.
        predictor_batch_norm_last: Batch normalization after the predictor's last layer too: true for the paper's ViTs, false
            for its ResNets.
        temperature: Temperature of the softmax, above 0: 0.2 for the paper's ViTs, 1 for its ResNets.
        momentum: Momentum at the first step; it rises to 1 along a cosine.
        freeze_patch_projection: Freeze the patch projection of a ViT at its random initialization, for stability (section
            4.2), or at its pretrained weights. No effect on other encoders.
        fixed_positions: Give a ViT fixed 2-D sine-cosine position embeddings; pretrained weights keep theirs, frozen.
            No effect on other encoders.
    """

    model_type = "hfcontrast_moco_v3"

    projection_dim: int = 256
    hidden_dim: int = 4096
    projector_layers: int = 3
    predictor_layers: int = 2
    predictor_batch_norm_last: bool = True
    temperature: float | int = 0.2
    momentum: float | int = 0.99
    freeze_patch_projection: bool = True
    fixed_positions: bool = True

    def validate_temperature(self):
        """The temperature is a divisor."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")

    def validate_momentum(self):
        """The momentum is between 0 and 1."""
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum is {self.momentum}, expected a number between 0 and 1")

    def validate_layers(self):
        """Heads have layers."""
        for name in ("projector_layers", "predictor_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 1 or more")


_COLOR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "jitter": 0.8, "grayscale": 0.2}


class MoCoV3(Method):
    """MoCo v3 (Chen et al., 2021, arXiv:2104.02057): each view predicts the momentum encoder's projection of the other view.

    The negatives are the other images of the global batch: there is no queue. Designed for vision transformers, with a frozen random patch
    projection and fixed position embeddings. The online encoder is published.
    """

    config_class = MoCoV3Config
    views = (
        View(name="view_1", size=224, interpolation="bilinear", blur=1.0, **_COLOR),
        View(name="view_2", size=224, interpolation="bilinear", blur=0.1, solarize=0.2, **_COLOR),
    )
    min_images_normalized = 3
    teachers = {"momentum_encoder": "encoder", "momentum_projector": "projector"}
    collapse_advice = "lower optim.lr, lengthen optim.warmup_epochs, or raise train.batch_size"

    def __init__(self, config: MoCoV3Config):
        super().__init__(config)
        if config.freeze_patch_projection:
            freeze_patch_projection(self.encoder)
        if config.fixed_positions:
            fix_positions(self.encoder)
        width, hidden = config.projection_dim, config.hidden_dim
        projector = (self.feature_size, *[hidden] * (config.projector_layers - 1), width)
        predictor = (width, *[hidden] * (config.predictor_layers - 1), width)
        last = "plain" if config.predictor_batch_norm_last else None
        self.projector = MLPHead(*projector, batch_norm_last="plain")
        self.predictor = MLPHead(*predictor, batch_norm_last=last, bias=False)
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, 2, C, H, W) to features of both views by both encoders, (B, 2, D) each; with separate batch statistics for each view."""
        check_two_views(pixel_values)
        query = view_by_view(partial(encode, self.encoder), pixel_values)
        with torch.no_grad():
            key = view_by_view(partial(encode, self.momentum_encoder), pixel_values)
        return {"query": query, "key": key}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The contrastive losses of both directions, each scaled by 2 * temperature (algorithm 1)."""
        projections = view_by_view(self.projector, embeddings["query"])
        queries = F.normalize(view_by_view(self.predictor, projections).float(), dim=-1)
        with torch.no_grad():
            keys = F.normalize(view_by_view(self.momentum_projector, embeddings["key"]).float(), dim=-1).flip(1)
            # The keys start with those of this process, so that a query and its key have the same index.
            all_keys = gather(keys).roll(-rank() * len(keys), dims=0)
        losses = [info_nce(queries[:, view], all_keys[:, view], self.config.temperature) for view in (0, 1)]
        return MethodOutput(
            loss=2 * self.config.temperature * (losses[0] + losses[1]),
            metrics={"positive_similarity": (queries * keys).sum(-1).mean().detach()},
            embeddings=queries.detach(),
        )

    def after_step(self, outputs: list[MethodOutput], progress: Progress) -> None:
        """Updates the momentum encoder and projector."""
        self.update_teachers(momentum_schedule(self.config.momentum, progress.fraction))
