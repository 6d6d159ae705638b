"""Color views: an encoder for each group of an image's color channels, as one model of ordinary RGB images (CMC, colorization).

With ``exported_code.py``, ``pooling.py``, ``small_resnet.py`` and ``subconfig.py`` beside it this file is self-contained: an exported encoder carries
them along, and loads with ``AutoModel.from_pretrained(folder, trust_remote_code=True)``, or with ``AutoModelForImageClassification`` for
fine-tuning, where hfcontrast is not installed.
"""

import copy
import inspect
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForImageClassification, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutputWithNoAttention

from .exported_code import AutoMapped, PreTrainedConfig, can_recompute, strict
from .pooling import count_class_tokens, find_pooling, hidden_output, output_named
from .small_resnet import SmallResNetConfig, SmallResNetForImageClassification, SmallResNetModel
from .subconfig import whole_config

_SIDE = 64  # of a blank image that shows how wide features are, in pixels
_GROUPS = {"lab": [[0], [1, 2]], "ydbdr": [[0], [1, 2]], "rgb": [[0], [1], [2]]}

# sRGB primaries with the white D65 (IEC 61966-2-1): linear R, G, B to X, Y, Z.
_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_YDBDR = ((0.299, 0.587, 0.114), (-0.450, -0.883, 1.333), (-1.333, 1.116, 0.217))

# Lowest and highest value of each channel over all colors; those of Lab are the ones that the authors of CMC scale by.
_RANGES = {
    "lab": ((0.0, 100.0), (-86.183, 98.233), (-107.857, 94.478)),
    "ydbdr": ((0.0, 1.0), (-1.333, 1.333), (-1.333, 1.333)),
    "rgb": ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
}


@strict
class ColorViewsConfig(PreTrainedConfig):
    """Configuration of encoders of color views.

    Args:
        backbone_config: Architecture of each encoder: a vision model of transformers, or ``TimmWrapperConfig``. Its number
            of input channels is replaced by that of the group.
        color_space: What the image's colors are converted to before they are split.
        channel_groups: The channels of each view; None splits Lab and YDbDr into luminance and chrominance, and RGB into
            its three channels. A channel may be in several groups or in none.
        image_mean: Mean of each color that the images are normalized by, in [0, 1].
        image_std: Standard deviation of each color that they are normalized by.
        hidden_size: Width of the features of all views together; set by the model.
    """

    model_type = "colour_views"
    sub_configs = {"backbone_config": AutoConfig}
    attribute_map = {"colour_space": "color_space"}  # as encoders saved by version 0.1 call it
    default_backbone = "resnet"  # where there is none, or its model_type is missing

    backbone_config: dict | PreTrainedConfig | None = None
    color_space: Literal["lab", "ydbdr", "rgb"] = "lab"
    channel_groups: list[list[int]] | None = None
    image_mean: list | tuple = (0.485, 0.456, 0.406)
    image_std: list | tuple = (0.229, 0.224, 0.225)
    hidden_size: int | None = None

    def __post_init__(self, **kwargs):
        self.color_space = kwargs.pop("colour_space", self.color_space)
        self.backbone_config = whole_config(self.backbone_config, self.default_backbone)
        if self.channel_groups is None:
            self.channel_groups = [list(group) for group in _GROUPS[self.color_space]]
        super().__post_init__(**kwargs)

    def validate_channel_groups(self):
        """One group or more, each of channels 0, 1 and 2, none twice."""
        groups = self.channel_groups or []
        if not groups or not all(group and set(group) <= {0, 1, 2} for group in groups):
            raise ValueError(f"channel_groups is {groups}, expected lists of the channels 0, 1 and 2")
        if any(len(set(group)) < len(group) for group in groups):
            raise ValueError(f"channel_groups is {groups}, expected each channel once in a group")


def as_color_views(
    config: PreTrainedConfig,
    color_space: str,
    channel_groups: list[list[int]] | None,
    image_mean: list | None,
    image_std: list | None,
) -> ColorViewsConfig:
    """The configuration of encoders of color views that all have one architecture; as it is, if it is of such encoders already.

    Args:
        config: The architecture.
        color_space: As in :class:`ColorViewsConfig`.
        channel_groups: As there.
        image_mean: As there; None where it is not known yet.
        image_std: As there.
    """
    if config.model_type == ColorViewsConfig.model_type:
        return config
    colors = {} if image_mean is None else {"image_mean": image_mean, "image_std": image_std}
    return ColorViewsConfig(backbone_config=config, color_space=color_space, channel_groups=channel_groups, **colors)


class ColorViewsPreTrainedModel(AutoMapped, PreTrainedModel):
    """What both models share."""

    config_class = ColorViewsConfig
    main_input_name = "pixel_values"
    base_model_prefix = "colour_views"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    auto_classes = {
        "AutoModel": "color_views.ColorViewsModel",
        "AutoModelForImageClassification": "color_views.ColorViewsForImageClassification",
    }

    def _set_gradient_checkpointing(self, enable: bool = True, **options) -> None:
        for encoder in getattr(self, "colour_views", self).encoders:
            encoder._set_gradient_checkpointing(enable=enable, **options)


class ColorViewsModel(ColorViewsPreTrainedModel):
    """An encoder for each color view; the features of an image are those of its views, side by side."""

    def __init__(self, config: ColorViewsConfig):
        super().__init__(config)
        configs = [_of_channels(config.backbone_config, len(group)) for group in config.channel_groups]
        self.encoders = nn.ModuleList(_build(of_view) for of_view in configs)
        self.supports_gradient_checkpointing = all(map(can_recompute, self.encoders))
        # transformers 4 loads weights into a model whose buffers alone have memory: nothing can be measured there.
        if config.hidden_size is None or not next(self.parameters()).is_meta:
            config.hidden_size = sum(map(_width, self.encoders, map(len, config.channel_groups)))
        self.post_init()
        self._no_split_modules = set().union(*(encoder._no_split_modules or () for encoder in self.encoders))

    def forward(self, pixel_values: Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """Encodes RGB images.

        Args:
            pixel_values: (B, 3, H, W), normalized by ``config.image_mean`` and ``config.image_std``.
            kwargs: Ignored.

        Returns:
            ``pooler_output`` (B, V * D), and ``last_hidden_state``: the views' last maps or tokens, joined along their
            channels.
        """
        outputs = [_encode(encoder, view) for encoder, view in zip(self.encoders, self.views(pixel_values))]
        hidden = [output_named(output, hidden_output(output)) for output in outputs]
        axis = 1 if hidden[0].ndim == 4 and not _channels_last(self.encoders[0]) else -1
        pooled = [_pooled(encoder, output) for encoder, output in zip(self.encoders, outputs)]
        return BaseModelOutputWithPooling(
            last_hidden_state=torch.cat(hidden, dim=axis), pooler_output=torch.cat(pooled, dim=1)
        )

    def views(self, pixel_values: Tensor) -> list[Tensor]:
        """The channels of each view, scaled to about [-1, 1]: (B, 3, H, W) to V times (B, channels, H, W)."""
        with torch.autocast(pixel_values.device.type, enabled=False):
            values = pixel_values.float()
            mean, std = (values.new_tensor(v).view(3, 1, 1) for v in (self.config.image_mean, self.config.image_std))
            channels = convert_colors((values * std + mean).clamp(0, 1), self.config.color_space)
            low, high = values.new_tensor(_RANGES[self.config.color_space]).view(3, 2, 1, 1).unbind(1)
            channels = ((2 * channels - low - high) / (high - low)).to(pixel_values.dtype)
        return [channels[:, group] for group in self.config.channel_groups]


class ColorViewsForImageClassification(ColorViewsPreTrainedModel):
    """The same with a linear classifier of the features: the pooled outputs, or with ``feature_pooling`` "mean" the patches' mean."""

    def __init__(self, config: ColorViewsConfig):
        super().__init__(config)
        self.colour_views = ColorViewsModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs):
        """(B, 3, H, W) to ``logits`` (B, num_labels), and with ``labels`` (B,) the cross-entropy as ``loss``."""
        outputs = self.colour_views(pixel_values)
        features = outputs.pooler_output
        if getattr(self.config, "feature_pooling", None) == "mean":
            first = 1 + (getattr(self.config, "num_register_tokens", None) or 0)
            features = outputs.last_hidden_state[:, first:].mean(1)
        logits = self.classifier(features)
        return ImageClassifierOutputWithNoAttention(None if labels is None else F.cross_entropy(logits, labels), logits)


def convert_colors(rgb: Tensor, space: str) -> Tensor:
    """Converts colors, (B, 3, H, W) sRGB in [0, 1].

    Args:
        rgb: The image.
        space: "lab" (CIE 1976 L*a*b* under D65), "ydbdr" (SECAM's) or "rgb".

    Returns:
        (B, 3, H, W): L in [0, 100] with a and b around 0; Y in [0, 1] with Db and Dr in [-1.333, 1.333]; or R, G and B.
    """
    if space == "rgb":
        return rgb
    if space == "ydbdr":
        return _product(rgb.new_tensor(_YDBDR), rgb)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    matrix = rgb.new_tensor(_XYZ)
    relative = _product(matrix / matrix.sum(dim=1, keepdim=True), linear)  # to the white, so that grays have no color
    edge = (6 / 29) ** 3  # below it the cube root's tangent
    x, y, z = torch.where(
        relative > edge, relative.clamp_min(edge) ** (1 / 3), relative * (29 / 6) ** 2 / 3 + 4 / 29
    ).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """The inverse of :func:`convert_colors` to "lab": (B, 3, H, W) to sRGB in [0, 1], what lies outside of it cut off."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    roots = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    relative = torch.where(roots > 6 / 29, roots**3, (roots - 4 / 29) * 3 * (6 / 29) ** 2)
    matrix = lab.new_tensor(_XYZ)
    linear = _product(torch.linalg.inv(matrix / matrix.sum(dim=1, keepdim=True)), relative)
    edge = 0.04045 / 12.92
    rgb = torch.where(linear > edge, 1.055 * linear.clamp_min(edge) ** (1 / 2.4) - 0.055, 12.92 * linear)
    return rgb.clamp(0, 1)


def _product(matrix: Tensor, image: Tensor) -> Tensor:
    return torch.einsum("ij,bjhw->bihw", matrix, image)


def _of_channels(config: PreTrainedConfig, channels: int) -> PreTrainedConfig:
    """The same architecture for images of so many channels."""
    config = copy.deepcopy(config)
    if config.model_type == "vit_mae":
        config.mask_ratio = 0.0  # it hides no patches by itself
    if config.model_type == "timm_wrapper":
        config.model_args = {**(config.model_args or {}), "in_chans": channels}
    elif hasattr(config, "num_channels"):
        config.num_channels = channels
    else:
        raise ValueError(
            f"the architecture '{config.model_type}' has no setting num_channels, and a color view has not three "
            "channels: take another one, such as resnet, vit, convnext or one of timm"
        )
    return config


def _build(config: PreTrainedConfig) -> PreTrainedModel:
    """An encoder with its architecture's own initialization, without the pooler and with the mask token fixed."""
    encoder = AutoModel.from_config(config)
    if config.model_type == "timm_wrapper" and not next(encoder.parameters()).is_meta:
        import timm  # which other architectures do not need

        original = timm.create_model(config.architecture, num_classes=0, **config.model_args)
        encoder.timm_model.load_state_dict(original.state_dict())
    has_choice = "add_pooling_layer" in inspect.signature(type(encoder).__init__).parameters
    if has_choice and any(True for _ in (getattr(encoder, "pooler", None) or nn.Module()).parameters()):
        encoder.pooler = None
    for name, parameter in encoder.named_parameters():
        if name.endswith("mask_token"):
            parameter.requires_grad_(False)
    return encoder


def _width(encoder: PreTrainedModel, channels: int) -> int:
    if hasattr(encoder, "timm_model"):
        return getattr(encoder.timm_model, "head_hidden_size", None) or encoder.timm_model.num_features
    if hasattr(encoder.config, "hidden_size"):
        return encoder.config.hidden_size
    parameter, training = next(encoder.parameters()), encoder.training
    view = torch.zeros(1, channels, _SIDE, _SIDE, dtype=parameter.dtype, device=parameter.device)
    with torch.no_grad():
        width = _pooled(encoder, _encode(encoder.eval(), view)).shape[1]
    encoder.train(training)
    return width


def _channels_last(encoder: PreTrainedModel) -> bool:
    return getattr(getattr(encoder, "timm_model", None), "output_fmt", "NCHW") == "NHWC"


def _encode(encoder: PreTrainedModel, view: Tensor):
    arguments = {}
    if "interpolate_pos_encoding" in inspect.signature(encoder.forward).parameters:
        size = getattr(encoder.config, "image_size", None)
        arguments["interpolate_pos_encoding"] = size not in (view.shape[-1], list(view.shape[-2:]))
    return encoder(view, **arguments)


def _pooled(encoder: PreTrainedModel, outputs) -> Tensor:
    return find_pooling(outputs, count_class_tokens(encoder), channels_last=_channels_last(encoder))(outputs)


for _config, _model, _classifier in (
    (SmallResNetConfig, SmallResNetModel, SmallResNetForImageClassification),
    (ColorViewsConfig, ColorViewsModel, ColorViewsForImageClassification),
):
    if _config.model_type not in CONFIG_MAPPING:  # where hfcontrast is installed, its own classes stay
        AutoConfig.register(_config.model_type, _config)
        AutoModel.register(_config, _model)
        AutoModelForImageClassification.register(_config, _classifier)
ColorViewsConfig.register_for_auto_class()
ColorViewsModel.register_for_auto_class("AutoModel")
ColorViewsForImageClassification.register_for_auto_class("AutoModelForImageClassification")
