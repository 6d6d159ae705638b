"""A released encoder that is used as it is: frozen, with its own size and normalization of images, and no part of what is saved."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, PreTrainedModel

from ..errors import ArgumentError
from ..nn.random import generator_at
from .build import build_encoder
from .config import Backbone
from .features import encode, feature_size, require_channels
from .fingerprint import fingerprint_of_weights
from .model_config import backbone_config
from .pretrained import read_pretrained
from .suitability import require_encoder
from .tower_configs import is_two_towers_config
from .weights import load_weights

_SIZES = [224, 0]  # two: positions are interpolated, where the architecture can
_SEED = 0  # of random weights
_AT_ONCE = 16  # images on a CPU, whose caches hold the activations of few; a whole batch would take gigabytes
_BLANK = 256  # side of the images that the processor is asked about, in pixels


class Normalization(NamedTuple):
    """What an image processor makes of an image, apart from its crop.

    Attributes:
        mean: Of each color, for values in [0, 1].
        std: Standard deviation of each color.
        size: Side of the images that it makes, in pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int


class ReleasedEncoder:
    """A frozen encoder, in evaluation mode. It is no module, so that nothing saves, trains, shards or averages it.

    Args:
        name: What it is called in messages.
        model: The encoder.
        normalization: What its own processor does; None: it has none.
        released: Whether it has released weights, and not random ones.
        revision: The commit of weights on the Hub, as far as it is known.

    Attributes:
        feature_size: Width D of its features.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        normalization: Normalization | None,
        released: bool,
        revision: str | None = None,
    ):
        self.name, self.normalization, self.released, self.revision = name, normalization, released, revision
        self.model = model.eval().requires_grad_(False)
        self.feature_size = feature_size(model)
        if sum(isinstance(module, nn.Conv2d) for module in model.modules()) > 2:
            for tensor in model.parameters():
                if tensor.ndim == 4:
                    tensor.data = tensor.data.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Features (N, D) of images (N, C, H, W), which are normalized as it needs them."""
        if self._parameter.device != pixel_values.device:
            self.model.to(pixel_values.device)
        pixel_values = pixel_values.to(self._parameter.dtype)
        pieces = pixel_values.split(_AT_ONCE) if pixel_values.device.type == "cpu" else [pixel_values]
        return torch.cat([encode(self.model, piece) for piece in pieces])

    @property
    def _parameter(self) -> Tensor:
        return next(self.model.parameters())

    def __deepcopy__(self, memo: dict[int, Any]) -> "ReleasedEncoder":
        return self  # it never changes

    def fingerprint(self) -> str:
        """Of its weights."""
        return fingerprint_of_weights(self.model)


def open_released(written: str | Mapping[str, Any]) -> ReleasedEncoder:
    """Opens a released encoder of images; of a model with an image and a text tower the image tower.

    Args:
        written: A folder or a name on the Hub; ``{pretrained: NAME, revision: ...}``; or an architecture, ``{model_type: ...}``,
            whose weights are random, and always the same.

    Raises:
        ArgumentError: There is none, or it cannot be used.
    """
    backbone = _read(written)
    config = backbone_config(backbone, list(_SIZES))
    require_encoder(config)
    if is_two_towers_config(config):
        raise ArgumentError(
            f"{config.model_type!r} has a text tower too: name its image tower, such as clip_vision_model"
        )
    with generator_at(_SEED):  # the caller's own weights are what they would be without it
        model = build_encoder(config)
        load_weights(model, backbone)
    require_channels(model)
    name = backbone.pretrained or str(getattr(config, "architecture", None) or config.model_type)
    revision = getattr(config, "_commit_hash", None) or backbone.revision
    return ReleasedEncoder(name, model, _normalization(backbone), backbone.pretrained is not None, revision)


def _read(written: str | Mapping[str, Any]) -> Backbone:
    backbone = Backbone.read({"pretrained": written} if isinstance(written, str) else written, tower=True)
    if backbone.pretrained is None and backbone.model_type is None:
        raise ArgumentError(
            "expected a folder or a name on the Hub, {pretrained: NAME, revision: ...} or an architecture {model_type: ...}, got "
            f"{written!r}"
        )
    if backbone.pretrained is not None and backbone.fields:
        raise ArgumentError(
            f"{next(iter(backbone.fields))}: unknown key beside pretrained; expected revision, or nothing"
        )
    return backbone


def _normalization(backbone: Backbone) -> Normalization | None:
    """As the processor shows it on a black and a white image, whatever it calls its settings."""
    weights = backbone.weights_of("vision")
    if weights is None:
        return None
    try:
        processor = read_pretrained(AutoImageProcessor, weights.name, weights.argument, weights.revision)
    except ArgumentError:
        return None
    processor = getattr(processor, "image_processor", processor)
    options = {"do_color_quantize": False} if hasattr(processor, "do_color_quantize") else {}
    images = [Image.fromarray(np.full((_BLANK, _BLANK, 3), level, np.uint8)) for level in (0, 255)]
    pixels = processor(images=images, return_tensors="pt", **options).pixel_values.double()
    middle = pixels.shape[-1] // 2
    black, white = pixels[:, :, middle, middle]
    std = 1 / (white - black)
    rounded = [[round(value, 6) for value in values.tolist()] for values in (-black * std, std)]
    return Normalization(tuple(rounded[0]), tuple(rounded[1]), pixels.shape[-1])
