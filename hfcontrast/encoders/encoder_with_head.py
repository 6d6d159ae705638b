"""An encoder with the first layers of its projection head on top: what SimCLR v2 fine-tunes.

With ``exported_code.py``, ``pooling.py`` and ``subconfig.py`` beside it this file is self-contained: a model that is saved carries them along, and loads with
``AutoModel.from_pretrained(folder, trust_remote_code=True)``, or with ``AutoModelForImageClassification`` for fine-tuning, where
hfcontrast is not installed.
"""

import inspect

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling, ImageClassifierOutputWithNoAttention

from .exported_code import AutoMapped, PreTrainedConfig, strict
from .pooling import count_class_tokens, find_pooling, hidden_output, output_named
from .subconfig import whole_config


@strict
class EncoderWithHeadConfig(PreTrainedConfig):
    """Configuration of an encoder with head layers.

    Args:
        backbone_config: Configuration of the encoder.
        feature_size: Width of its features.
        hidden_size: Width of the layers.
        head_layers: Number of layers: linear, batch normalization, ReLU.
        class_token: The encoder has no pooler, where transformers would add one at random to take the class token's place.
    """

    model_type = "encoder_with_head"
    sub_configs = {"backbone_config": AutoConfig}
    default_backbone = "resnet"  # where there is none, or its model_type is missing

    backbone_config: dict | PreTrainedConfig | None = None
    feature_size: int = 2048
    hidden_size: int = 2048
    head_layers: int = 1
    class_token: bool = False

    def __post_init__(self, **kwargs):
        self.backbone_config = whole_config(self.backbone_config, self.default_backbone)
        super().__post_init__(**kwargs)


class EncoderWithHeadPreTrainedModel(AutoMapped, PreTrainedModel):
    """What both models share."""

    config_class = EncoderWithHeadConfig
    auto_classes = {
        "AutoModel": "encoder_with_head.EncoderWithHeadModel",
        "AutoModelForImageClassification": "encoder_with_head.EncoderWithHeadForImageClassification",
    }
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    _supports_sdpa = True
    _supports_flash_attn = True

    def _init_weights(self, module: nn.Module) -> None:
        tensors = (*module.parameters(), *module.buffers())
        loaded = all(tensor.is_meta or getattr(tensor, "_is_hf_initialized", False) for tensor in tensors)
        if isinstance(module, nn.Linear | nn.BatchNorm1d) and not loaded:
            module.reset_parameters()


class EncoderWithHeadModel(EncoderWithHeadPreTrainedModel):
    """Any vision model of transformers, and layers of a projection head; ``pooler_output`` is the last layer's output."""

    def __init__(self, config: EncoderWithHeadConfig):
        super().__init__(config)
        self.encoder = AutoModel.from_config(config.backbone_config)
        if config.class_token:
            self.encoder.pooler = None
        layers: list[nn.Module] = []
        for number in range(config.head_layers):
            width = config.hidden_size if number else config.feature_size
            layers += [nn.Linear(width, config.hidden_size, bias=False), nn.BatchNorm1d(config.hidden_size), nn.ReLU()]
        self.head = nn.Sequential(*layers)
        self.post_init()

    def forward(self, pixel_values: Tensor, **kwargs) -> BaseModelOutputWithPooling:
        """(N, C, H, W) to ``pooler_output`` (N, hidden_size); ``last_hidden_state`` is the encoder's."""
        arguments = {}
        if "interpolate_pos_encoding" in inspect.signature(self.encoder.forward).parameters:
            size = getattr(self.encoder.config, "image_size", None)
            arguments["interpolate_pos_encoding"] = size not in (pixel_values.shape[-1], list(pixel_values.shape[-2:]))
        outputs = self.encoder(pixel_values, **arguments)
        features = find_pooling(outputs, count_class_tokens(self.encoder))(outputs)
        hidden = output_named(outputs, hidden_output(outputs))
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=self.head(features))


class EncoderWithHeadForImageClassification(EncoderWithHeadPreTrainedModel):
    """The same with a linear classifier, which starts at zero as in the authors' code."""

    def __init__(self, config: EncoderWithHeadConfig):
        super().__init__(config)
        self.model = EncoderWithHeadModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self.classifier:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs):
        """(N, C, H, W) to ``logits`` (N, num_labels), and with ``labels`` (N,) the cross-entropy as ``loss``."""
        logits = self.classifier(self.model(pixel_values).pooler_output)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)


EncoderWithHeadConfig.register_for_auto_class()
EncoderWithHeadModel.register_for_auto_class("AutoModel")
EncoderWithHeadForImageClassification.register_for_auto_class("AutoModelForImageClassification")
