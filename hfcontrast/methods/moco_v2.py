"""MoCo v2: Improved Baselines with Momentum Contrastive Learning. Chen, Fan, Girshick, He, 2020.

arXiv:2003.04297; details that the paper leaves open are those of the authors' code (facebookresearch/moco).

Deviations from the paper:
- Those of MoCo (``moco/method.py``), except for the order of color jitter and grayscale, which is the authors'.
- The learning rate follows its cosine at every step; in the authors' code once per epoch.
- The blur is a true Gaussian of the drawn standard deviation; the authors' PIL filter approximates one by box filters.
"""

from huggingface_hub.dataclasses import strict
from torch import nn

from ..nn import MLPHead
from ..view import View
from .moco import MoCo, MoCoConfig


@strict
class MoCoV2Config(MoCoConfig):
    """Configuration of MoCo v2.

    Args:
        hidden_dim: Width of the head's hidden layer.
        temperature: Temperature of the softmax, above 0.
    """

    model_type = "hfcontrast_moco_v2"

    hidden_dim: int = 2048
    temperature: float | int = 0.2


class MoCoV2(MoCo):
    """MoCo v2 (Chen et al., 2020, arXiv:2003.04297): MoCo with SimCLR's MLP head, blur and cosine schedule.

    InfoNCE between a query, its key (another view of its image), and a queue of keys of a momentum encoder. The query encoder is
    published.
    """

    config_class = MoCoV2Config
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

    def build_head(self) -> nn.Module:
        """The head: features (B, D) to queries or keys, without batch statistics."""
        return MLPHead(self.feature_size, self.config.hidden_dim, self.config.projection_dim, batch_norm=False)
