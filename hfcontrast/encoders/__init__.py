"""Encoders: all that is known of architectures, and only here: configurations, first weights, features, towers."""

from .color_views import ColorViewsConfig, ColorViewsModel
from .features import build_encoder, encode, feature_size
from .signal_encoder import SignalEncoderConfig, SignalEncoderModel
from .small_resnet import SmallResNetConfig, SmallResNetModel

__all__ = [
    "ColorViewsConfig",
    "ColorViewsModel",
    "SignalEncoderConfig",
    "SignalEncoderModel",
    "SmallResNetConfig",
    "SmallResNetModel",
    "build_encoder",
    "encode",
    "feature_size",
]
