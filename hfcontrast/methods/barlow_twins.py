"""Barlow Twins: Self-Supervised Learning via Redundancy Reduction. Zbontar, Jing, Misra, LeCun, Deny, 2021.

arXiv:2103.03230; details that the paper leaves open are those of the authors' code (facebookresearch/barlowtwins, main.py).

Deviations from the paper:
- lambda is 0.0051, that of the authors' code and of their released model; the paper's text rounds it to 0.005.
- The embeddings are normalized without running statistics, which are never used.
- The blur is a true Gaussian of the drawn standard deviation; the authors' PIL filter approximates one by box filters.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor

from ..losses import barlow_twins
from ..nn import MLPHead, gather
from ..view import View
from .base import Method, MethodConfig, MethodOutput


@strict
class BarlowTwinsConfig(MethodConfig):
    """Configuration of Barlow Twins.

    Args:
        projection_dim: Width of the embedding, the side of the cross-correlation matrix; wider is better (paper, figure 4).
        hidden_dim: Width of the head's hidden layers.
        head_layers: Number of linear layers of the head, 1 or more.
        off_diagonal: lambda, the weight of the redundancy reduction.
        loss_scale: Factor on the loss. It has no effect with adaptive optimizers; with lars it scales only the steps of biases and
            norms (and the gradient relative to the weight decay). The authors' learning rates are 0.2 for weights and 0.0048 for biases
            and norms, and their gradient is divided by the number of GPUs: 0.024 / 16 reproduces their setting on 16 GPUs.
    """

    model_type = "hfcontrast_barlow_twins"

    projection_dim: int = 8192
    hidden_dim: int = 8192
    head_layers: int = 3
    off_diagonal: float | int = 0.0051
    loss_scale: float | int = 1.0

    def validate_head_layers(self):
        """The head has at least one layer."""
        if self.head_layers < 1:
            raise ValueError(f"head_layers is {self.head_layers}, expected 1 or more")

    def validate_factors(self):
        """The weights must not be negative."""
        if self.off_diagonal < 0:
            raise ValueError(f"off_diagonal is {self.off_diagonal}, expected 0 or more")
        if self.loss_scale <= 0:
            raise ValueError(f"loss_scale is {self.loss_scale}, expected a number above 0")


_COLOR = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1, "jitter": 0.8, "grayscale": 0.2}


class BarlowTwins(Method):
    """Barlow Twins (Zbontar et al., 2021, arXiv:2103.03230): drives the cross-correlation of two views' embeddings to the identity.

    The correlations are computed over the global batch. No negatives, no teacher, no predictor. Encoder and head process one view
    at a time, so that batch normalization uses the statistics of one view, as in the authors' code.
    """

    config_class = BarlowTwinsConfig
    views = (
        View(name="view_1", size=224, scale=(0.08, 1.0), blur=1.0, **_COLOR),
        View(name="view_2", size=224, scale=(0.08, 1.0), blur=0.1, solarize=0.2, **_COLOR),
    )
    min_images_normalized = 3
    collapse_advice = "raise method.off_diagonal, widen method.projection_dim, or lower optim.lr"

    def __init__(self, config: BarlowTwinsConfig):
        super().__init__(config)
        hidden = [config.hidden_dim] * (config.head_layers - 1)
        self.projector = MLPHead(self.feature_size, *hidden, config.projection_dim, bias=False)
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, 2, C, H, W) to features h, (B, 2, D)."""
        return {"h": torch.cat([self.encode(view) for view in pixel_values.split(1, dim=1)], dim=1)}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """Distance of the cross-correlation matrix from the identity, over the global batch."""
        z = torch.stack([self.projector(view).float() for view in embeddings["h"].unbind(dim=1)], dim=1)
        first, second = gather(z).unbind(dim=1)
        loss = self.config.loss_scale * barlow_twins(first, second, self.config.off_diagonal)
        return MethodOutput(
            loss=loss,
            metrics={"correlation": _correlation(first.detach(), second.detach())},
            embeddings=z.detach(),
        )


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Mean of the diagonal of the cross-correlation matrix, at most 1."""
    first, second = (z - z.mean(dim=0) for z in (first, second))
    return torch.cosine_similarity(first, second, dim=0).mean()
