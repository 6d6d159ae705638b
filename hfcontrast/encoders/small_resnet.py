"""ResNets for small images: a 3x3 stride-1 stem without pooling (SimCLR, appendix B.9), otherwise the ResNet of transformers.

With ``exported_code.py`` beside it this file is self-contained: an exported encoder carries both along, and loads with
``AutoModel.from_pretrained(folder, trust_remote_code=True)``, or with ``AutoModelForImageClassification`` for fine-tuning, where
hfcontrast is not installed.
"""

from typing import Literal

from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.resnet.modeling_resnet import ResNetBasicLayer, ResNetBottleNeckLayer

from .exported_code import AutoMapped, finish_parent, strict

_AUTO_CLASSES = {
    "AutoModel": "small_resnet.SmallResNetModel",
    "AutoModelForImageClassification": "small_resnet.SmallResNetForImageClassification",
}
_DEPTHS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3]}


@strict
class SmallResNetConfig(ResNetConfig):
    """Configuration of a ResNet for images of about 32 pixels.

    Args:
        depth: 18 or 34 (basic blocks, 512 features) or 50 (bottlenecks, 2048 features); sets depths, hidden_sizes and
            layer_type of ``ResNetConfig``.
    """

    model_type = "small_resnet"

    depth: Literal[18, 34, 50] = 18

    def __post_init__(self, **kwargs):
        self.layer_type = "bottleneck" if self.depth == 50 else "basic"
        self.depths = list(_DEPTHS[self.depth])
        self.hidden_sizes = [width * (4 if self.depth == 50 else 1) for width in (64, 128, 256, 512)]
        sizes = {"layer_type": self.layer_type, "depths": self.depths, "hidden_sizes": self.hidden_sizes}
        finish_parent(super(), sizes, kwargs)


class SmallResNetStem(nn.Module):
    """(N, C, H, W) to (N, 64, H, W): convolution 3x3 with stride 1, batch normalization, ReLU."""

    def __init__(self, config: SmallResNetConfig):
        super().__init__()
        self.convolution = nn.Conv2d(config.num_channels, config.embedding_size, 3, padding=1, bias=False)
        self.normalization = nn.BatchNorm2d(config.embedding_size)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Runs the stem."""
        return self.activation(self.normalization(self.convolution(pixel_values)))


class RecomputableBasicLayer(GradientCheckpointingLayer, ResNetBasicLayer):
    """A basic block whose activations can be computed again in the backward pass."""


class RecomputableBottleNeckLayer(GradientCheckpointingLayer, ResNetBottleNeckLayer):
    """A bottleneck whose activations can be computed again in the backward pass."""


_RECOMPUTABLE = {ResNetBasicLayer: RecomputableBasicLayer, ResNetBottleNeckLayer: RecomputableBottleNeckLayer}


class SmallResNetModel(AutoMapped, ResNetModel):
    """ResNet whose stem keeps the resolution."""

    config_class = SmallResNetConfig
    auto_classes = _AUTO_CLASSES
    supports_gradient_checkpointing = True

    def __init__(self, config: SmallResNetConfig):
        super().__init__(config)
        self.embedder = SmallResNetStem(config)
        for module in self.encoder.modules():
            module.__class__ = _RECOMPUTABLE.get(type(module), type(module))  # the same layers, drawn by ResNetModel
        self.post_init()


class SmallResNetForImageClassification(AutoMapped, ResNetForImageClassification):
    """The same with a linear classifier, for fine-tuning through ``AutoModelForImageClassification``."""

    config_class = SmallResNetConfig
    auto_classes = _AUTO_CLASSES
    supports_gradient_checkpointing = True

    def __init__(self, config: SmallResNetConfig):
        super().__init__(config)
        self.resnet = SmallResNetModel(config)
        self.post_init()


SmallResNetConfig.register_for_auto_class()
SmallResNetModel.register_for_auto_class("AutoModel")
SmallResNetForImageClassification.register_for_auto_class("AutoModelForImageClassification")
