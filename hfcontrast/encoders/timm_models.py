"""timm's models as encoders (``TimmWrapperModel``): their configuration, first weights, and what timm itself says of them."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import ArgumentError
from .timm_names import architectures, is_architecture

SIZE_HINT = "; a ViT of timm can with model_args: {img_size: SIZE, dynamic_img_size: true}"
WEIGHT_PREFIX = "timm_model."


def timm_config(config_class: type[PreTrainedConfig], fields: dict[str, Any], sizes: list[int]) -> PreTrainedConfig:
    """Configuration of a timm architecture for images of these sizes.

    Args:
        config_class: ``TimmWrapperConfig``.
        fields: Its fields: ``architecture``, ``model_args`` and others.
        sizes: Sides of the images, in pixels; the first one is the architecture's own where it has positions.

    Raises:
        ArgumentError: There is no such architecture, or timm cannot build it with its arguments.
    """
    fields = dict(fields)
    architecture = fields.pop("architecture", "resnet50")
    if not is_architecture(architecture):
        near = [name for name in architectures() if name.startswith(architecture[:6])][:5]
        raise ArgumentError(f"timm has no architecture {architecture!r}; there are {', '.join(near) or 'others'}")
    given = fields.pop("model_args", None) or {}
    # Architectures with position embeddings are built for one image size; those without do not know the arguments.
    guesses = [{"img_size": sizes[0]}, {}]
    if len(set(sizes)) > 1:
        guesses.insert(0, {"img_size": sizes[0], "dynamic_img_size": True})
    for guess in guesses:
        arguments = {**guess, **given}
        if (failure := _try_to_build(architecture, arguments)) is None:
            own: dict[str, Any] = {"architecture": architecture, "model_args": arguments, "num_labels": 0}
            return config_class(**own, **fields)
    raise ArgumentError(f"timm cannot build {architecture!r} with {given}: {failure}")


def accept_sizes(config: PreTrainedConfig, sizes: list[int]) -> None:
    """Makes a released encoder of timm take images of these sizes, where it can."""
    config.num_labels = 0
    config.model_args = dict(config.model_args or {})
    trained_at = (
        config.model_args.get("img_size") or (getattr(config, "pretrained_cfg", None) or {}).get("input_size", [0])[-1]
    )
    resizing = {**config.model_args, "dynamic_img_size": True}
    if set(sizes) != {trained_at} and _try_to_build(config.architecture, resizing) is None:
        config.model_args = resizing


def _try_to_build(architecture: str, arguments: dict[str, Any]) -> Exception | None:
    """Tries to build an architecture, without memory for its weights; returns why it cannot be."""
    import timm

    try:
        with torch.device("meta"):
            timm.create_model(architecture, num_classes=0, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        return error
    return None


def initialize_timm(encoder: PreTrainedModel, config: PreTrainedConfig) -> None:
    """Draws the first weights as timm does: ``TimmWrapperModel`` overwrites them with transformers' own."""
    import timm

    original = timm.create_model(config.architecture, num_classes=0, **(config.model_args or {}))
    encoder.timm_model.load_state_dict(original.state_dict())


def replaced_layers(encoder: PreTrainedModel) -> dict[str, Any]:
    """The fields of ``pretrained_cfg`` by which ``timm.create_model`` puts a new classifier on weights, or takes other channels.

    ``num_classes`` 0 says that the weights have no classifier, ``classifier`` and ``first_conv`` name the layers that
    ``num_classes`` and ``in_chans`` of a call replace or adapt.
    """
    known = getattr(encoder.timm_model, "pretrained_cfg", None) or {}
    return {"num_classes": 0, **{name: known.get(name) for name in ("classifier", "first_conv")}}


def timm_width(encoder: PreTrainedModel) -> int:
    """Width D of the pooled output."""
    return getattr(encoder.timm_model, "head_hidden_size", None) or encoder.timm_model.num_features


def timm_patch(encoder: PreTrainedModel) -> Any:
    """Side, or sides, of the patches of a ViT-like model; None for a hierarchical or convolutional one."""
    strides = {stage["reduction"] for stage in getattr(encoder.timm_model, "feature_info", None) or []}
    if len(strides) > 1:
        return None
    return getattr(getattr(encoder.timm_model, "patch_embed", None), "patch_size", None)


def timm_channels(encoder: PreTrainedModel) -> int:
    """Channels of the images."""
    return (encoder.config.model_args or {}).get("in_chans", 3)


def timm_image_size(encoder: PreTrainedModel) -> Any:
    """Side, or sides, of the images that the position embeddings were made for; None without such."""
    return getattr(getattr(encoder.timm_model, "patch_embed", None), "img_size", None)


def timm_channels_last(encoder: PreTrainedModel) -> bool:
    """Whether maps come as (N, h, w, D)."""
    return getattr(encoder.timm_model, "output_fmt", "NCHW") == "NHWC"


def timm_distances(encoder: nn.Module) -> dict[str, int]:
    """Layers by timm's own groups, as its ``param_groups_layer_decay`` has them for a model with a classifier."""
    # Private to timm, but what its optimizers are made with; tested against param_groups_layer_decay.
    from timm.models._manipulate import group_with_matcher

    model = encoder.timm_model
    if not hasattr(model, "group_matcher"):
        return {WEIGHT_PREFIX + name: 0 for name, _ in model.named_parameters()}
    classifier = "a classifier above"  # what the groups do not name comes last
    named = [(name, None) for name in (*dict(model.named_parameters()), classifier)]
    layers = group_with_matcher(named, model.group_matcher(coarse=False), reverse=True)
    return {WEIGHT_PREFIX + name: layers[classifier] - layer for name, layer in layers.items() if name != classifier}
