"""Rotation: Unsupervised Representation Learning by Predicting Image Rotations. Gidaris, Singh, Komodakis, 2018.

arXiv:1803.07728 ("RotNet"); details that the paper leaves open are those of the authors' code (gidariss/FeatureLearningRotNet).

Deviations from the paper:
- The features are the encoder's pooled ones, with one linear layer to the rotations, as in the paper's Network-in-Network. Its
  AlexNet has two more layers before it, and is evaluated on the features of its convolutions.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F

from ..view import View
from .base import Method, MethodConfig, MethodOutput

ROTATIONS = 4  # by 0, 90, 180 and 270 degrees counterclockwise


@strict
class RotationConfig(MethodConfig):
    """Configuration of the prediction of rotations, which has no settings."""

    model_type = "hfcontrast_rotation"


class Rotation(Method):
    """Rotation (Gidaris et al., 2018, arXiv:1803.07728): predicts by which of four angles an image is rotated.

    All four copies of an image are in the batch (section 3), rotated without interpolation.
    """

    config_class = RotationConfig
    views = (View(name="crop", size=224, scale=(0.08, 1.0), interpolation="bilinear", jitter=0.0),)
    min_images = 1
    collapse_advice = "lower optim.lr, use views without vertical flips, and images with an upright orientation"

    def __init__(self, config: RotationConfig):
        super().__init__(config)
        self.classifier = nn.Linear(self.feature_size, ROTATIONS)
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, C, S, S) to the features of the rotated images, (B, V, 4, D)."""
        return {"h": self.encode(turn(pixel_values).flatten(0, 1)).unflatten(0, pixel_values.shape[:2])}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """Cross-entropy of the four rotations, the mean over the images and their copies (eq. 2 and 3)."""
        h = embeddings["h"]
        logits = self.classifier(h).float().flatten(0, 2)
        angles = torch.arange(ROTATIONS, device=h.device).repeat(len(logits) // ROTATIONS)
        accuracy = (logits.argmax(dim=1) == angles).float().mean()
        return MethodOutput(
            loss=F.cross_entropy(logits, angles),
            metrics={"accuracy": accuracy},
            embeddings=h[:, :, 0].detach(),
        )

    def visualize(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """The four copies, and each of them rotated back by the predicted angle."""
        images = pixel_values[:, :1]
        turned = turn(images)[:, 0]
        angles = self.classifier(self.embed(images)["h"][:, 0]).argmax(dim=-1)  # (B, 4)
        back = torch.stack([torch.rot90(turned, -angle, (-2, -1)) for angle in range(ROTATIONS)], dim=2)
        chosen = angles.view(*angles.shape, 1, 1, 1, 1).expand(-1, -1, 1, *turned.shape[2:])
        return {"rotated": turned, "turned back": back.gather(2, chosen).squeeze(2)}


def turn(images: Tensor) -> Tensor:
    """Square images (B, V, C, S, S) rotated by 0, 90, 180 and 270 degrees counterclockwise, (B, V, 4, C, S, S)."""
    return torch.stack([torch.rot90(images, angle, (-2, -1)) for angle in range(ROTATIONS)], dim=2)
