"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning. Bardes, Ponce, LeCun, 2021.

arXiv:2105.04906; details that the paper leaves open are those of the authors' code (facebookresearch/vicreg, main_vicreg.py).

Deviations from the paper:
- The invariance is a mean over the dimensions and the variance term one over the two views, as in the authors' code, for which
  the weights 25, 25 and 1 were chosen; the paper's equations 5 and 6 have sums there.
- The views are the paper's, with the same augmentation; in the authors' code they differ, as in BYOL.
- The hidden layers have no biases, which the batch normalization after them would cancel.
- The blur is a true Gaussian of the drawn standard deviation; the authors' PIL filter approximates one by box filters.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor

from ..losses import vicreg
from ..nn import MLPHead, gather
from ..view import View
from .base import Method, MethodConfig, MethodOutput


@strict
class VICRegConfig(MethodConfig):
    """Configuration of VICReg.

    Args:
        projection_dim: Width of the embedding whose covariances are driven to zero.
        hidden_dim: Width of the expander's hidden layers.
        head_layers: Number of linear layers of the expander, 1 or more.
        invariance: lambda, the weight of the distance between the views.
        variance: mu, the weight of keeping each dimension's standard deviation at 1 or more.
        covariance: nu, the weight of keeping the dimensions uncorrelated.
    """

    model_type = "hfcontrast_vicreg"

    projection_dim: int = 8192
    hidden_dim: int = 8192
    head_layers: int = 3
    invariance: float | int = 25.0
    variance: float | int = 25.0
    covariance: float | int = 1.0

    def validate_head_layers(self):
        """The expander has at least one layer."""
        if self.head_layers < 1:
            raise ValueError(f"head_layers is {self.head_layers}, expected 1 or more")

    def validate_weights(self):
        """The weights must not be negative."""
        for name in ("invariance", "variance", "covariance"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")


class VICReg(Method):
    """VICReg (Bardes et al., 2021, arXiv:2105.04906): variance, invariance and covariance terms on two views.

    Variances and covariances are computed over the global batch, separately for each view. Encoder and expander process one view at
    a time, so that batch normalization uses the statistics of one view, as in the authors' code.
    """

    config_class = VICRegConfig
    views = (
        View(
            name="view",
            count=2,
            size=224,
            scale=(0.08, 1.0),
            brightness=0.4,
            contrast=0.4,
            saturation=0.2,
            hue=0.1,
            jitter=0.8,
            grayscale=0.2,
            blur=0.5,
            solarize=0.1,
        ),
    )
    min_images_normalized = 3
    collapse_advice = "raise method.variance (it should be about method.invariance) or lower optim.lr"

    def __init__(self, config: VICRegConfig):
        super().__init__(config)
        hidden = [config.hidden_dim] * (config.head_layers - 1)
        self.expander = MLPHead(self.feature_size, *hidden, config.projection_dim, bias=False)
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, 2, C, H, W) to features h, (B, 2, D)."""
        return {"h": torch.cat([self.encode(view) for view in pixel_values.split(1, dim=1)], dim=1)}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """The three terms over the global batch."""
        z = torch.stack([self.expander(view).float() for view in embeddings["h"].unbind(dim=1)], dim=1)
        everything = gather(z)
        first, second = everything.unbind(dim=1)
        config = self.config
        with torch.no_grad():
            metrics = {
                "view_distance": (everything[:, 0] - everything[:, 1]).square().mean(),
                "dimension_std": everything.std(dim=0).mean(),
            }
        return MethodOutput(
            loss=vicreg(first, second, config.invariance, config.variance, config.covariance),
            metrics=metrics,
            embeddings=z.detach(),
        )
