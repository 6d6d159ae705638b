"""Architectures of hfcontrast's own, known to transformers' Auto classes once this is imported.

An export of one carries a copy of its code along. Where hfcontrast is installed its own classes are loaded, and never that copy.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from .color_views import ColorViewsConfig, ColorViewsForImageClassification, ColorViewsModel
from .encoder_with_head import EncoderWithHeadConfig, EncoderWithHeadForImageClassification, EncoderWithHeadModel
from .signal_encoder import SignalEncoderConfig, SignalEncoderForAudioClassification, SignalEncoderModel
from .small_resnet import SmallResNetConfig, SmallResNetForImageClassification, SmallResNetModel

ENCODERS: dict[type[PreTrainedConfig], type[PreTrainedModel]] = {
    SmallResNetConfig: SmallResNetModel,
    EncoderWithHeadConfig: EncoderWithHeadModel,
    SignalEncoderConfig: SignalEncoderModel,
    ColorViewsConfig: ColorViewsModel,
}
CLASSIFIERS: dict[type[PreTrainedConfig], type[PreTrainedModel]] = {
    SmallResNetConfig: SmallResNetForImageClassification,
    EncoderWithHeadConfig: EncoderWithHeadForImageClassification,
    ColorViewsConfig: ColorViewsForImageClassification,
}

for _config, _model in ENCODERS.items():
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)
for _config, _model in CLASSIFIERS.items():
    AutoModelForImageClassification.register(_config, _model, exist_ok=True)
AutoModelForAudioClassification.register(SignalEncoderConfig, SignalEncoderForAudioClassification, exist_ok=True)
