"""The configuration of a model within another one, from an object or from its fields."""

from typing import Any

from transformers import CONFIG_MAPPING

from .exported_code import PreTrainedConfig


def whole_config(given: PreTrainedConfig | dict[str, Any] | None, default: str) -> PreTrainedConfig:
    """The configuration of a model that is part of another one.

    Args:
        given: The configuration, its fields (as a config.json has them), or None.
        default: The ``model_type`` where the fields do not say it.

    Raises:
        KeyError: transformers has no such ``model_type``.
    """
    if not isinstance(given, dict | None):
        return given
    fields = dict(given or {})
    config_class = CONFIG_MAPPING[fields.pop("model_type", default)]
    if config_class.model_type == "timm_wrapper":
        # TimmWrapperConfig.from_dict fails without a number of classes, and timm later without model_args.
        fields = {"num_classes": 0, "model_args": {}, **fields}
    return config_class.from_dict(fields)
