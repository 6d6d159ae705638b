"""From what a recipe says of the backbone to the encoder's configuration and its first weights."""

from typing import Any

import timm
import torch
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from ..errors import RecipeError
from .small_resnet import SmallResNetConfig, SmallResNetForImageClassification, SmallResNetModel

AutoConfig.register(SmallResNetConfig.model_type, SmallResNetConfig, exist_ok=True)
AutoModel.register(SmallResNetConfig, SmallResNetModel, exist_ok=True)
AutoModelForImageClassification.register(SmallResNetConfig, SmallResNetForImageClassification, exist_ok=True)


def backbone_config(backbone: str | dict[str, Any], sizes: list[int]) -> PreTrainedConfig:
    """Configuration of the encoder that a recipe asks for.

    Args:
        backbone: ``timm/ARCHITECTURE``, ``{model_type: ..., ...}`` or ``{pretrained: FOLDER_OR_HUB_NAME}``.
        sizes: Sizes of the views in pixels; the first one is the image size where the recipe does not give one.

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
        return _pretrained_config(backbone, sizes)
    fields = dict(backbone)
    config_class = CONFIG_MAPPING[fields.pop("model_type")]
    if config_class.model_type == "timm_wrapper":
        return _timm_config(config_class, fields, sizes)
    if config_class is SmallResNetConfig and (given := sorted({"depths", "hidden_sizes", "layer_type"} & set(fields))):
        raise RecipeError(
            f"backbone: small_resnet takes its {', '.join(given)} from depth (18, 34 or 50): leave them out, or use "
            "model_type: resnet for other sizes"
        )
    if "image_size" in config_class.__dataclass_fields__:
        fields.setdefault("image_size", sizes[0])
    try:
        return config_class(**fields)
    except Exception as error:  # every architecture checks its configuration in its own way
        raise RecipeError(f"backbone: {config_class.__name__} does not accept {fields}: {error}") from error


def load_backbone(encoder: PreTrainedModel, backbone: str | dict[str, Any]) -> str | None:
    """Loads the weights of ``{pretrained: ...}`` into the encoder.

    Returns:
        A sentence that says how many tensors matched; None when the backbone starts from random weights.

    Raises:
        RecipeError: The weights cannot be loaded, or tensors of the encoder are missing from them.
    """
    if isinstance(backbone, str) or "pretrained" not in backbone:
        return None
    name = backbone["pretrained"]
    try:
        source = AutoModel.from_pretrained(name, revision=backbone.get("revision") or "main")
    except (OSError, ValueError, ImportError) as error:
        raise RecipeError(f"backbone.pretrained: {name!r} cannot be loaded: {error}") from error
    weights = getattr(source, "vision_model", source).state_dict()
    result = encoder.load_state_dict(weights, strict=False)
    wanted = encoder.state_dict()
    if result.missing_keys:
        raise RecipeError(
            f"backbone.pretrained: {name!r} lacks {len(result.missing_keys)} of the encoder's {len(wanted)} tensors, "
            f"among them {result.missing_keys[0]!r}"
        )
    return f"{len(wanted)} of {len(wanted)} encoder tensors loaded from {name}"


def _pretrained_config(backbone: dict[str, Any], sizes: list[int]) -> PreTrainedConfig:
    name = backbone["pretrained"]
    try:
        config = AutoConfig.from_pretrained(name, revision=backbone.get("revision") or "main")
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"backbone.pretrained: {name!r} is neither a folder with a model nor a model on the Hub that can be reached: {error}"
        ) from error
    config = getattr(config, "vision_config", config)
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
    return config


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
