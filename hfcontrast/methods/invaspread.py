"""InvaSpread: Unsupervised Embedding Learning via Invariant and Spreading Instance Feature. Ye, Zhang, Yuen, Chang, 2019.

arXiv:1904.03436; details that the paper leaves open are those of the authors' code
(mangye16/Unsupervised_Embedding_Learning).

Deviations from the paper:
- "Image" and "augmented image" are two augmented views, as in the authors' code; the first view plays the role of the image.
- The loss is the paper's equation 6, which classifies views among images; the authors' code classifies each of the 2 B vectors
  among all others: ``symmetric: true``. In both, gradients flow through both vectors of a product; in the code only through the
  classified one, the other one being detached.
- Augmentations work on values in [0, 1] without rounding to 8 bits in between.
"""

from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ..losses import invariant_spreading
from ..nn import gather
from ..view import View
from .base import Method, MethodConfig, MethodOutput


@strict
class InvaSpreadConfig(MethodConfig):
    """Configuration of InvaSpread.

    Args:
        projection_dim: Width of the embedding on which the loss is computed.
        temperature: Temperature of the softmaxes, above 0; the authors recommend 0.05 to 0.1.
        symmetric: Classify every vector among all others of both views, as the authors' code does, instead of views among images.
    """

    model_type = "hfcontrast_invaspread"

    projection_dim: int = 128
    temperature: float | int = 0.1
    symmetric: bool = False

    def validate_temperature(self):
        """The temperature is a divisor."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")


class InvaSpread(Method):
    """InvaSpread (Ye et al., 2019, arXiv:1904.03436): classifies a view as its image, and no image of the batch as another one.

    One encoder, no memory: positives and negatives come from the global batch of all processes. The default view
    is that of the paper's CIFAR-10 experiments.
    """

    config_class = InvaSpreadConfig
    views = (
        View(
            name="view",
            count=2,
            size=32,
            scale=(0.2, 1.0),
            interpolation="bilinear",
            jitter=1.0,
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.4,
            grayscale=0.2,
        ),
    )

    def __init__(self, config: InvaSpreadConfig):
        super().__init__(config)
        self.head = nn.Linear(self.feature_size, config.projection_dim)
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, 2, C, H, W) to features h, (B, 2, D)."""
        if pixel_values.shape[1] != 2:
            raise ValueError(f"invaspread compares two views of an image, got {pixel_values.shape[1]}: set their count")
        return {"h": self.encode(pixel_values)}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """Invariant and spreading loss over the global batch."""
        z = F.normalize(self.head(embeddings["h"]).float(), dim=-1)
        images, augmented = gather(z).unbind(dim=1)
        return MethodOutput(
            loss=invariant_spreading(images, augmented, self.config.temperature, self.config.symmetric),
            metrics={"positive_similarity": (z[:, 0] * z[:, 1]).sum(dim=-1).mean().detach()},
            embeddings=z.detach(),
        )
