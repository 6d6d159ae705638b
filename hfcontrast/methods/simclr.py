"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations. Chen, Kornblith, Norouzi, Hinton, 2020.

arXiv:2002.05709; details that the paper leaves open are those of the authors' code (google-research/simclr).

Deviations from the paper:
- The loss is the mean over all 2 B views, as in the paper's algorithm 1; the authors' code adds the means of both directions, which
  is twice that. With lars this doubles the steps of biases and norms, and halves the weight decay relative to the gradient.
- Colors are jittered as by torchvision: contrast around the mean gray, saturation by mixing with the gray image. TensorFlow, in
  the authors' code, changes contrast around each color's own mean, and saturation in HSV; it clips after each change.
- The blur's kernel is truncated at four standard deviations instead of at a tenth of the image size.
- Color augmentations work on values in [0, 1] without rounding to 8 bits in between.
- Encoder and head have torch's initialization; the authors' convolutions have TensorFlow's variance scaling by fan-in, the layers of
  the head N(0, 0.01^2).
"""

from typing import Literal

from huggingface_hub.dataclasses import strict
from torch import Tensor
from torch.nn import functional as F

from ..losses import nt_xent
from ..nn import MLPHead, gather
from ..view import View
from .base import Method, MethodConfig, MethodOutput


@strict
class SimCLRConfig(MethodConfig):
    """Configuration of SimCLR.

    Args:
        projection_dim: Width of the projection z on which the loss is computed.
        hidden_dim: Width of the head's hidden layer; None takes the encoder's feature width, as the paper does.
        head: Projection head g: "mlp" with one hidden layer, "linear", or "identity" (paper, figure 8).
        temperature: Temperature of NT-Xent, above 0; the paper's best is 0.1 on ImageNet and 0.5 on CIFAR-10.
    """

    model_type = "hfcontrast_simclr"

    projection_dim: int = 128
    hidden_dim: int | None = None
    head: Literal["mlp", "linear", "identity"] = "mlp"
    temperature: float | int = 0.1

    def validate_temperature(self):
        """The temperature is a divisor."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")


class SimCLR(Method):
    """SimCLR (Chen et al., 2020, arXiv:2002.05709): two views of an image are positives, all other images negatives.

    The batch is the global batch of all processes. The head normalizes by batch statistics after both of its layers (without a
    shift after the last), as the authors' code does; on several processes the statistics are global too.
    """

    config_class = SimCLRConfig
    views = (
        View(
            name="view",
            count=2,
            size=224,
            scale=(0.08, 1.0),
            brightness=0.8,
            contrast=0.8,
            saturation=0.8,
            hue=0.2,
            jitter=0.8,
            grayscale=0.2,
            blur=0.5,
            blur_sigma=(0.1, 2.0),
        ),
    )
    min_images_normalized = 2

    def __init__(self, config: SimCLRConfig):
        super().__init__(config)
        width = self.feature_size
        sizes = {
            "mlp": (width, config.hidden_dim or width, config.projection_dim),
            "linear": (width, config.projection_dim),
        }
        self.projector = MLPHead(*sizes[config.head], batch_norm_last="scale") if config.head in sizes else None
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to features h, (B, V, D)."""
        return {"h": self.encode(pixel_values)}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """NT-Xent over the projections of the global batch."""
        h = embeddings["h"]
        z = F.normalize((h if self.projector is None else self.projector(h)).float(), dim=-1)
        loss = nt_xent(gather(z), self.config.temperature)  # refuses a single view
        similarity = (z[:, 0] * z[:, 1]).sum(-1).mean()
        return MethodOutput(
            loss=loss,
            metrics={"positive_similarity": similarity.detach()},
            embeddings=z.detach(),
        )
