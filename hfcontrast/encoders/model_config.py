"""From the backbone of a recipe to the configuration of its encoder."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoImageProcessor, PreTrainedConfig

from ..errors import ArgumentError, RecipeError, under
from . import own_architectures  # noqa: F401 (so that transformers knows them)
from .config import PAIR, Backbone, Weights, has_own_towers
from .families import family_of_type
from .pretrained import read_pretrained
from .tower_configs import (
    adapt_to_tokenizer,
    image_size_field,
    is_two_towers_config,
    joint_config,
    pair_config,
    refuse_unknown,
    text_fields,
)


def backbone_config(
    backbone: Backbone | str | Mapping[str, Any], sizes: list[int], text: Any = None
) -> PreTrainedConfig:
    """Configuration of the encoder that a recipe asks for, whose weights are trained in float32.

    Args:
        backbone: The recipe's backbone, or what :meth:`~.config.Backbone.read` parses.
        sizes: Sizes of the views in pixels; the first one is the image size where the recipe does not give one.
        text: Facts of the tokenizer (see :func:`~.tower_configs.text_fields`) for a method that learns from texts; None takes
            the image tower out of a pretrained model that has a text tower too.

    Raises:
        ArgumentError: The architecture or the pretrained model cannot be found or built.
    """
    config = _config(Backbone.read(backbone), sizes, text)
    in_float32(config)
    return config


def in_float32(config: PreTrainedConfig) -> None:
    """Weights stored in half precision are trained in full: an encoder would else be built with the type that they were saved in."""
    if config.dtype in (torch.float16, torch.bfloat16, "float16", "bfloat16"):
        config.dtype = torch.float32
    for part in vars(config).values():
        if isinstance(part, PreTrainedConfig):
            in_float32(part)


def _config(backbone: Backbone, sizes: list[int], text: Any) -> PreTrainedConfig:
    if backbone.pretrained is not None:
        return _pretrained_config(backbone, sizes, text)
    if isinstance(backbone.written, str) and backbone.model_type is None:
        name = backbone.written
        raise ArgumentError(f"{name!r} is not known; write timm/ARCHITECTURE or {{pretrained: {name}}}")
    config_class = _class_of(backbone)
    if config_class.model_type == PAIR:
        return _config_of_pair(backbone, sizes, text)
    family, fields = family_of_type(config_class.model_type), dict(backbone.fields)
    if family.make_config is not None:
        return family.make_config(config_class, fields, sizes)
    if "image_size" in config_class.__dataclass_fields__:
        fields.setdefault("image_size", image_size_field(config_class, sizes[0]))
    family.settle_fields(fields, sizes[0])
    with _refusals(config_class, backbone.fields):
        if has_own_towers(config_class):
            return joint_config(config_class, fields, sizes[0], text)
        return config_class(**fields)


def _class_of(backbone: Backbone) -> type[PreTrainedConfig]:
    if backbone.model_type not in CONFIG_MAPPING:
        raise ArgumentError(f"transformers has no model_type {backbone.model_type!r}")
    return CONFIG_MAPPING[backbone.model_type]


@contextmanager
def _refusals(config_class: type[PreTrainedConfig], fields: dict[str, Any]) -> Iterator[None]:
    """Says what a configuration class does not accept: every architecture checks its fields in its own way."""
    try:
        yield
    except RecipeError:
        raise
    except Exception as error:
        raise ArgumentError(f"{config_class.__name__} does not accept {fields}: {error}") from error


def _config_of_pair(backbone: Backbone, sizes: list[int], text: Any) -> PreTrainedConfig:
    towers = {"vision": backbone.vision, "text": backbone.text}
    if missing := [name for name, tower in towers.items() if tower is None]:
        raise ArgumentError(f"{missing[0]} is missing: {PAIR} is put together from vision and text", missing[0])
    with under("vision"):
        vision = backbone_config(backbone.vision, sizes)
    with under("text"):
        words = _text_config(backbone.text, text)
    return pair_config(vision, words, backbone.fields, sizes[0])


def _text_config(backbone: Backbone, text: Any) -> PreTrainedConfig:
    """Configuration of the text tower of a pair."""
    if isinstance(name := backbone.written, str):
        raise ArgumentError(f"expected a mapping such as {{model_type: bert}} or {{pretrained: {name}}}, got {name!r}")
    if backbone.pretrained is not None:
        config = _read_config(backbone)
        config = getattr(config, "text_config", config)
        if text is not None:
            adapt_to_tokenizer(config, text, backbone.pretrained)
        return config
    config_class = _class_of(backbone)
    refuse_unknown(config_class, backbone.fields)
    with _refusals(config_class, backbone.fields):
        return config_class(**text_fields(config_class, backbone.fields, text))


def _read_config(backbone: Backbone) -> PreTrainedConfig:
    name, problem = backbone.pretrained, "cannot be loaded"
    if not (Path(name) / "config.json").is_file():
        problem = "is neither a folder with a model nor a model on the Hub that can be reached"
    config = read_pretrained(AutoConfig, name, "pretrained", backbone.revision, problem)
    if (Path(name) / "config.json").is_file():
        config.name_or_path = ""  # a path of this machine, which saved methods would tell
    return config


def _pretrained_config(backbone: Backbone, sizes: list[int], text: Any) -> PreTrainedConfig:
    config = _read_config(backbone)
    if text is not None:
        if not is_two_towers_config(config):
            raise ArgumentError(
                f"pretrained: {backbone.pretrained!r} ({config.model_type}) has no image and text tower: take one that has, or "
                f"{{model_type: {PAIR}, vision: {{pretrained: ...}}, text: {{pretrained: ...}}}}",
                "pretrained",
            )
        adapt_to_tokenizer(config.text_config, text, backbone.pretrained)
        family_of_type(config.vision_config.model_type).accept_sizes(config.vision_config, sizes)
        return config
    config = getattr(config, "vision_config", config)
    family = family_of_type(config.model_type)
    family.accept_sizes(config, sizes)
    family.from_processor(config, partial(_read_processor, Weights(backbone.pretrained, backbone.revision)))
    return config


def _read_processor(weights: Weights) -> Any:
    problem = "has no image processor, which says what its tokens stand for"
    return read_pretrained(AutoImageProcessor, weights.name, weights.argument, weights.revision, problem)
