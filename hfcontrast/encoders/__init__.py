"""Encoders: all that is known of architectures, and only here: configurations, first weights, features, towers."""

from importlib import import_module

# Public name -> its module, imported when the name is asked for: what only reads a recipe need not wait for torch.
_HOMES = {
    "Backbone": "config",
    "ColorViewsConfig": "color_views",
    "ColorViewsModel": "color_views",
    "Family": "family",
    "Pooling": "pooling",
    "SignalEncoderConfig": "signal_encoder",
    "SignalEncoderModel": "signal_encoder",
    "SmallResNetConfig": "small_resnet",
    "SmallResNetModel": "small_resnet",
    "build_encoder": "build",
    "encode": "features",
    "feature_size": "features",
    "pooling_of": "features",
    "register_family": "families",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
