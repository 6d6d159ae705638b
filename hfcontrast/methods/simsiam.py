"""SimSiam: Exploring Simple Siamese Representation Learning. Chen, He, 2020.

arXiv:2011.10566; details that the paper leaves open are those of the authors' code (facebookresearch/simsiam).

Deviations from the paper:
- The blur is a true Gaussian of the drawn standard deviation; the authors' PIL filter approximates one by box filters.
- The learning rate follows its cosine at every step; in the authors' code once per epoch.
"""

from functools import partial

from huggingface_hub.dataclasses import strict
from torch import Tensor

from ..encoders import encode
from ..losses import negative_cosine
from ..nn import MLPHead, view_by_view
from ..view import View
from .base import Method, MethodConfig, MethodOutput


@strict
class SimSiamConfig(MethodConfig):
    """Configuration of SimSiam.

    Args:
        projection_dim: Width of projection and prediction.
        hidden_dim: Width of the projector's hidden layers; None takes the encoder's feature width, as the authors' code does
            (2048 for ResNet-50).
        projection_layers: Linear layers of the projector: 3, or 2 for the paper's CIFAR-10 experiments.
        predictor_dim: Width of the predictor's hidden layer, a bottleneck of a quarter of projection_dim.
    """

    model_type = "hfcontrast_simsiam"

    projection_dim: int = 2048
    hidden_dim: int | None = None
    projection_layers: int = 3
    predictor_dim: int = 512

    def validate_projection_layers(self):
        """The projector has at least one layer."""
        if self.projection_layers < 1:
            raise ValueError(f"projection_layers is {self.projection_layers}, expected 1 or more")


class SimSiam(Method):
    """SimSiam (Chen & He, 2020, arXiv:2011.10566): predicts, from one view, the projection of the other, with stop-gradient.

    No negatives, no momentum encoder: stop-gradient and predictor prevent a collapse. The
    predictor's learning rate is constant (paper, table 1). Encoder and heads run on one view at a time, so batch
    statistics are those of one view of the global batch.
    """

    config_class = SimSiamConfig
    views = (
        View(
            name="view",
            count=2,
            size=224,
            scale=(0.2, 1.0),
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
    min_images_normalized = 3
    constant_lr = ("predictor",)
    collapse_advice = (
        "lower optim.lr, use the paper's optim.name=sgd with optim.weight_decay=1e-4, or make method.predictor_dim a "
        "quarter of method.projection_dim"
    )

    def __init__(self, config: SimSiamConfig):
        super().__init__(config)
        hidden = [config.hidden_dim or self.feature_size] * (config.projection_layers - 1)
        self.projector = MLPHead(self.feature_size, *hidden, config.projection_dim, batch_norm_last="plain")
        self.predictor = MLPHead(config.projection_dim, config.predictor_dim, config.projection_dim)
        self.post_init()

    def embed(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """(B, V, C, H, W) to features, (B, V, D)."""
        return {"h": view_by_view(partial(encode, self.encoder), pixel_values)}

    def objective(self, embeddings: dict[str, Tensor]) -> MethodOutput:
        """Negative cosine similarity of each prediction with the other view's projection, mean of both directions (eq. 4)."""
        z = view_by_view(self.projector, embeddings["h"])
        p = view_by_view(self.predictor, z)
        return MethodOutput(loss=negative_cosine(p, z), embeddings=z.detach())
