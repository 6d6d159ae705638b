"""From what a recipe says of the backbone to the encoder's configuration and its first weights."""

from pathlib import Path
from typing import Any

import timm
import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoImageProcessor, PreTrainedConfig

from ..errors import RecipeError
from .pretrained import read_pretrained
from .small_resnet import SmallResNetConfig
from .tower_configs import (
    PAIR,
    adapt_to_tokenizer,
    is_two_towers_config,
    joint_config,
    known_fields,
    pair_config,
    refuse_unknown,
    text_fields,
)

__all__ = ["backbone_config", "has_own_towers", "known_fields"]

# What stands beside an architecture or beside weights and says how they are trained.
ADAPTATION_KEYS = ("min_matched", "lora", "locked")


def backbone_config(backbone: str | dict[str, Any], sizes: list[int], text: Any = None) -> PreTrainedConfig:
    """Configuration of the encoder that a recipe asks for.

    Args:
        backbone: ``timm/ARCHITECTURE``, ``{model_type: ..., ...}`` or ``{pretrained: FOLDER_OR_HUB_NAME}``; two towers of any
            kind as ``{model_type: vision-text-dual-encoder, projection_dim: ..., vision: BACKBONE, text: BACKBONE}``.
        sizes: Sizes of the views in pixels; the first one is the image size where the recipe does not give one.
        text: Facts of the tokenizer (see :func:`~.tower_configs.text_fields`) for a method that learns from texts; None takes
            the image tower out of a pretrained model that has a text tower too.

    Raises:
        RecipeError: The architecture or the pretrained model cannot be found or built.
    """
    if isinstance(backbone, str):
        if not backbone.startswith("timm/"):
            raise RecipeError(
                f"backbone: {backbone!r} is not known; write timm/ARCHITECTURE or {{pretrained: {backbone}}}"
            )
        backbone = {"model_type": "timm_wrapper", "architecture": backbone.removeprefix("timm/")}
    if "pretrained" in backbone:
        return _pretrained_config(backbone, sizes, text)
    fields = {name: value for name, value in backbone.items() if name not in ADAPTATION_KEYS}
    if fields.get("model_type") not in CONFIG_MAPPING:
        raise RecipeError(f"backbone: transformers has no model_type {fields.get('model_type')!r}")
    config_class = CONFIG_MAPPING[fields.pop("model_type")]
    if config_class.model_type == PAIR:
        return _pair_config(fields, sizes, text)
    if config_class.model_type == "timm_wrapper":
        return _timm_config(config_class, fields, sizes)
    if config_class is SmallResNetConfig and (given := sorted({"depths", "hidden_sizes", "layer_type"} & set(fields))):
        raise RecipeError(
            f"backbone: small_resnet takes its {', '.join(given)} from depth (18, 34 or 50): leave them out, or use "
            "model_type: resnet for other sizes"
        )
    if "image_size" in config_class.__dataclass_fields__:
        fields.setdefault("image_size", sizes[0])
    if config_class.model_type == "imagegpt":  # a token for every pixel
        fields.setdefault("n_positions", sizes[0] ** 2)
    try:
        if has_own_towers(config_class):
            return joint_config(config_class, fields, sizes[0], text)
        return config_class(**fields)
    except RecipeError:
        raise
    except Exception as error:  # every architecture checks its configuration in its own way
        raise RecipeError(f"backbone: {config_class.__name__} does not accept {fields}: {error}") from error


def has_own_towers(config_class: type[PreTrainedConfig]) -> bool:
    """Whether the configuration has an image and a text tower of its own kind, each with known fields, as CLIP's and SigLIP's."""
    towers = [config_class.sub_configs.get(name) for name in ("vision_config", "text_config")]
    return all(isinstance(tower, type) and hasattr(tower, "__dataclass_fields__") for tower in towers)


def _pair_config(fields: dict[str, Any], sizes: list[int], text: Any) -> PreTrainedConfig:
    towers = {name: fields.pop(name, None) for name in ("vision", "text")}
    if missing := [name for name, tower in towers.items() if not tower]:
        raise RecipeError(f"backbone.{missing[0]} is missing: {PAIR} is put together from vision and text")
    vision = backbone_config(towers["vision"], sizes)
    return pair_config(vision, _text_config(towers["text"], text), fields, sizes[0])


def _text_config(backbone: str | dict[str, Any], text: Any) -> PreTrainedConfig:
    """Configuration of the text tower of a pair."""
    if isinstance(backbone, str):
        raise RecipeError(
            f"backbone.text: expected a mapping such as {{model_type: bert}} or {{pretrained: {backbone}}}, got {backbone!r}"
        )
    if "pretrained" in backbone:
        config = _read_config(backbone, "backbone.text.pretrained")
        config = getattr(config, "text_config", config)
        if text is not None:
            adapt_to_tokenizer(config, text, str(backbone["pretrained"]))
        return config
    fields = dict(backbone)
    if fields.get("model_type") not in CONFIG_MAPPING:
        raise RecipeError(f"backbone.text: transformers has no model_type {fields.get('model_type')!r}")
    config_class = CONFIG_MAPPING[fields.pop("model_type")]
    refuse_unknown(config_class, fields, "backbone.text")
    try:
        return config_class(**text_fields(config_class, fields, text, "backbone.text"))
    except RecipeError:
        raise
    except Exception as error:  # every architecture checks its configuration in its own way
        raise RecipeError(f"backbone.text: {config_class.__name__} does not accept {fields}: {error}") from error


def _read_config(backbone: dict[str, Any], setting: str) -> PreTrainedConfig:
    name, problem = backbone["pretrained"], "cannot be loaded"
    if not (Path(name) / "config.json").is_file():
        problem = "is neither a folder with a model nor a model on the Hub that can be reached"
    return read_pretrained(AutoConfig, name, setting, backbone.get("revision"), problem)


def _pretrained_config(backbone: dict[str, Any], sizes: list[int], text: Any) -> PreTrainedConfig:
    config = _read_config(backbone, "backbone.pretrained")
    if text is not None:
        if not is_two_towers_config(config):
            raise RecipeError(
                f"backbone.pretrained: {backbone['pretrained']!r} ({config.model_type}) has no image and text tower: take one "
                f"that has, or {{model_type: {PAIR}, vision: {{pretrained: ...}}, text: {{pretrained: ...}}}}"
            )
        adapt_to_tokenizer(config.text_config, text, str(backbone["pretrained"]))
        _settle_timm(config.vision_config, sizes)
        return config
    config = getattr(config, "vision_config", config)
    _settle_timm(config, sizes)
    if config.model_type == "imagegpt" and getattr(config, "clusters", None) is None:
        config.clusters = _clusters_of(backbone)
    return config


def _clusters_of(backbone: dict[str, Any]) -> list[list[float]]:
    """The colors that the tokens of a pretrained ImageGPT stand for: only its image processor knows them."""
    problem = "has no image processor with `clusters`, the colors that its tokens stand for"
    name, setting = backbone["pretrained"], "backbone.pretrained"
    processor = read_pretrained(AutoImageProcessor, name, setting, backbone.get("revision"), problem)
    if getattr(processor, "clusters", None) is None:
        raise RecipeError(f"{setting}: {name!r} {problem}")
    return torch.as_tensor(processor.clusters).tolist()


def _settle_timm(config: PreTrainedConfig, sizes: list[int]) -> None:
    """Makes an encoder of timm take the sizes of the views, where it can."""
    if config.model_type == "timm_wrapper":
        config.num_labels = 0
        config.model_args = dict(config.model_args or {})
        trained_at = (
            config.model_args.get("img_size")
            or (getattr(config, "pretrained_cfg", None) or {}).get("input_size", [0])[-1]
        )
        resizing = {**config.model_args, "dynamic_img_size": True}
        if set(sizes) != {trained_at} and _build_timm(config.architecture, resizing) is None:
            config.model_args = resizing


def _build_timm(architecture: str, arguments: dict[str, Any]) -> Exception | None:
    """Tries to build an architecture, without memory for its weights; returns why it cannot be."""
    try:
        with torch.device("meta"):
            timm.create_model(architecture, num_classes=0, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        return error
    return None


def _timm_config(config_class, fields: dict[str, Any], sizes: list[int]) -> PreTrainedConfig:
    architecture = fields.pop("architecture", "resnet50")
    if not timm.is_model(architecture):
        near = [name for name in timm.list_models() if name.startswith(architecture[:6])][:5]
        raise RecipeError(
            f"backbone: timm has no architecture {architecture!r}; there are {', '.join(near) or 'others'}"
        )
    given = fields.pop("model_args", None) or {}
    # Architectures with position embeddings are built for one image size; those without do not know the arguments.
    guesses = [{"img_size": sizes[0]}, {}]
    if len(set(sizes)) > 1:
        guesses.insert(0, {"img_size": sizes[0], "dynamic_img_size": True})
    for guess in guesses:
        arguments = {**guess, **given}
        if (failure := _build_timm(architecture, arguments)) is None:
            return config_class(architecture=architecture, model_args=arguments, num_labels=0, **fields)
    raise RecipeError(f"backbone: timm cannot build {architecture!r} with {given}: {failure}")
