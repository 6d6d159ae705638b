"""SupCon: Supervised Contrastive Learning. Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan, 2020.

arXiv:2004.11362; details that the paper leaves open are those of the authors' code (google-research/google-research, folder
supcon).

Deviations from the paper:
- The views are those of the paper's SimAugment at the strength of the authors' code, 0.5, without its sparse image warp.
  AutoAugment, the paper's best for ResNet-50, is not available as a view.
- Stage two, the linear classifier on the frozen encoder, is the linear probe of the evaluation, not part of this training.
- The authors' code multiplies the loss by the temperature, the equations do not: see ``scale_by_temperature``.
- The head has torch's initialization and biases; the authors' has N(0, 0.01) and no last bias.
"""

from typing import Literal

from huggingface_hub.dataclasses import strict
from torch import Tensor
from torch.nn import functional as F

from ..losses import supcon
from ..nn import MLPHead, gather, own_classes
from ..view import View
from .base import Method, MethodConfig, MethodOutput


@strict
class SupConConfig(MethodConfig):
    """Configuration of SupCon.

    Args:
        projection_dim: Width of the projection z on which the loss is computed.
        hidden_dim: Width of the hidden layer of the "mlp" head.
        head: Projection head: "mlp" with one hidden layer, or "linear"; the paper has both (section 3.1).
        normalize_features: Scale the encoder's features to unit length before the head (section 3.1).
        temperature: Temperature of the loss, above 0; 0.1 in the paper and in the authors' scripts (their default is 0.07).
        form: Position of the sum over the positives: "out" of the logarithm (eq. 2, the better one) or "in" it (eq. 3).
        scale_by_temperature: Multiply the loss by the temperature, as the authors' code does, so that its gradient does
            not grow as the temperature falls. It matters where weight decay is part of the gradient (lars, sgd).
    """

    model_type = "hfcontrast_supcon"

    projection_dim: int = 128
    hidden_dim: int = 2048
    head: Literal["mlp", "linear"] = "mlp"
    normalize_features: bool = True
    temperature: float | int = 0.1
    form: Literal["out", "in"] = "out"
    scale_by_temperature: bool = False

    def validate_temperature(self):
        """The temperature is a divisor."""
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}, expected a number above 0")


class SupCon(Method):
    """SupCon (Khosla et al., 2020, arXiv:2004.11362): all views of all images of one class are positives.

    The batch is the global batch of all processes. An image without a label (-1) is its own class.
    """

    config_class = SupConConfig
    views = (
        View(
            name="view",
            count=2,
            size=224,
            scale=(0.08, 1.0),
            interpolation="bilinear",
            brightness=0.4,
            contrast=0.4,
            saturation=0.4,
            hue=0.1,
            jitter=0.8,
            grayscale=0.2,
            blur=0.5,
            blur_sigma=(0.1, 2.0),
        ),
    )

    def __init__(self, config: SupConConfig):
        super().__init__(config)
        hidden = [config.hidden_dim] if config.head == "mlp" else []
        self.projector = MLPHead(self.feature_size, *hidden, config.projection_dim, batch_norm=False)
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to unit vectors z, (B, V, D)."""
        h = self.encode(pixel_values)
        if self.config.normalize_features:
            h = F.normalize(h.float(), dim=-1).to(self.projector[0].weight.dtype)
        return {"z": F.normalize(self.projector(h).float(), dim=-1)}

    def objective(self, embeddings: dict[str, Tensor], labels: Tensor) -> MethodOutput:
        """The supervised contrastive loss over the projections of the global batch."""
        z, config = embeddings["z"], self.config
        views = z.shape[1]
        loss = supcon(gather(z), own_classes(gather(labels)), config.temperature, config.form)
        z = z.detach()
        metrics = {}
        if views > 1:
            agreement = (z.sum(dim=1).square().sum(-1) - z.square().sum(dim=(1, 2))).mean()
            metrics["positive_similarity"] = agreement / (views * (views - 1))
        return MethodOutput(
            loss=loss * config.temperature if config.scale_by_temperature else loss, metrics=metrics, embeddings=z
        )
