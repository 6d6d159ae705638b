"""LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics. Balestriero, LeCun, 2025.

arXiv:2511.08544; details that the paper leaves open are those of the authors' code (rbalestr-lab/lejepa).

Deviations from the paper:
- Equation 7 sums the squared distances over the dimensions; algorithm 2 and the authors' code, for which lambda was
  chosen, take the mean, as here.
- The authors' minimal example has a linear layer to 512 dimensions between encoder and projector; here the projector
  follows directly.
- The optional weight averaging of the encoder that embeds the global views (section 6.1) is not implemented.
"""

from typing import Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from torch.nn import functional as F

from ..losses import sigreg
from ..nn import MLPHead, all_sum, shared_normal
from ..view import View
from .base import Method, MethodConfig, MethodOutput

DIRECTIONS = 1  # purpose of the random numbers


@strict
class LeJEPAConfig(MethodConfig):
    """Configuration of LeJEPA.

    Args:
        trade_off: lambda, the one hyper-parameter: the weight of SIGReg, in [0, 1]; that of the prediction is 1 - lambda. 0.05 is the
            paper's recommendation, 0.02 that of the authors' minimal example.
        projection_dim: Width of the embeddings; 512 in the authors' scripts for ImageNet-1k, 16 in their
            minimal example.
        hidden_dim: Width of the projector's hidden layers.
        projector_layers: Linear layers of the projector, batch normalization between them.
        num_slices: Number of random directions, new ones in every step.
        integration_points: Points of the integral over [-integration_reach, integration_reach], odd.
        integration_reach: Largest frequency of the integral.
        centers: What the views predict: the mean of the "global" views, or of "all"; the latter is the paper's choice for
            encoders other than vision transformers.
    """

    model_type = "hfcontrast_lejepa"

    trade_off: float | int = 0.05
    projection_dim: int = 512
    hidden_dim: int = 2048
    projector_layers: int = 3
    num_slices: int = 1024
    integration_points: int = 17
    integration_reach: float | int = 5.0
    centers: Literal["global", "all"] = "global"

    def validate_trade_off(self):
        """It is between 0 and 1."""
        if not 0 <= self.trade_off <= 1:
            raise ValueError(f"trade_off is {self.trade_off}, expected a number between 0 and 1")

    def validate_integration(self):
        """The trapezoidal rule has a point at 0."""
        if self.integration_points < 3 or self.integration_points % 2 == 0:
            raise ValueError(f"integration_points is {self.integration_points}, expected an odd number, 3 or more")
        if self.integration_reach <= 0:
            raise ValueError(f"integration_reach is {self.integration_reach}, expected a number above 0")


_COLOR = {
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.2,
    "hue": 0.1,
    "jitter": 0.8,
    "grayscale": 0.2,
    "blur": 0.5,
    "solarize": 0.2,
}


class LeJEPA(Method):
    """LeJEPA (Balestriero and LeCun, 2025, arXiv:2511.08544): views predict the mean of the global views; SIGReg regularizes.

    No teacher, no stop-gradient, no predictor: SIGReg regularizes the embeddings of every view towards an isotropic Gaussian along
    random directions, which rules out a collapse. Its statistics are computed over the global batch.
    """

    config_class = LeJEPAConfig
    views = (
        View(name="global", count=2, size=224, scale=(0.3, 1.0), **_COLOR),
        View(name="local", key="local_pixel_values", count=8, size=98, scale=(0.05, 0.3), **_COLOR),
    )
    min_images_normalized = 2
    collapse_advice = "raise method.trade_off or train.batch_size, or lower optim.lr"

    def __init__(self, config: LeJEPAConfig):
        super().__init__(config)
        hidden = [config.hidden_dim] * (config.projector_layers - 1)
        self.projector = MLPHead(self.feature_size, *hidden, config.projection_dim)
        self.post_init()

    def embed(self, pixel_values: Tensor, local_pixel_values: Tensor | None = None) -> dict[str, Tensor]:
        """Global views (B, T, C, H, W) and local ones (B, L, C, h, w) to features: (B, T, D) and (B, L, D)."""
        features = {"global": self.encode(pixel_values)}
        if local_pixel_values is not None:
            features["local"] = self.encode(local_pixel_values)
        return features

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """Algorithm 2: squared distance of all views to the images' centers, and SIGReg of every view."""
        config = self.config
        z = self.projector(torch.cat(list(embeddings.values()), dim=1)).float()
        aims = z if config.centers == "all" else z[:, : embeddings["global"].shape[1]]
        prediction = (z - aims.mean(dim=1, keepdim=True)).square().mean()
        gaussianity = sigreg(
            z, self.directions(z), config.integration_points, config.integration_reach, over_processes=all_sum
        )
        return MethodOutput(
            loss=(1 - config.trade_off) * prediction + config.trade_off * gaussianity,
            metrics={"prediction": prediction.detach(), "sigreg": gaussianity.detach()},
            embeddings=z.detach(),
        )

    def directions(self, z: Tensor) -> Tensor:
        """This step's unit vectors (D, M), equal on all processes and devices."""
        return F.normalize(
            shared_normal((z.shape[-1], self.config.num_slices), *self.random_key(DIRECTIONS), device=z.device), dim=0
        )
