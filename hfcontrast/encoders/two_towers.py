"""Models with an image and a text tower: the features of each, projected into their common space."""

import inspect
from collections.abc import Collection
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel


def is_two_towers(model: PreTrainedModel) -> bool:
    """Whether a model maps images and texts into one space, as CLIP, SigLIP and VisionTextDualEncoder do."""
    return hasattr(model, "get_image_features") and hasattr(model, "get_text_features")


def image_features(model: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """Projected features of images, not normalized.

    Args:
        model: A model with two towers.
        pixel_values: (N, C, H, W), normalized; for a size other than the model's own the position embeddings are
            interpolated, where it can.

    Returns:
        (N, D).
    """
    arguments = {}
    # A pair of towers passes on what it does not know itself to the image tower.
    takes = (model.get_image_features, getattr(model, "vision_model", model).forward)
    if any("interpolate_pos_encoding" in inspect.signature(function).parameters for function in takes):
        size = getattr(_image_config(model), "image_size", None)
        own = [size, size] if isinstance(size, int) else size and list(size)
        arguments["interpolate_pos_encoding"] = own not in (None, list(pixel_values.shape[-2:]))
    return _pooled(model.get_image_features(pixel_values=pixel_values, **arguments))


def text_features(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Projected features of texts, not normalized.

    Args:
        model: A model with two towers.
        input_ids: (N, T).
        attention_mask: (N, T), 1 for tokens and 0 for padding; None where every token counts, as in SigLIP.

    Returns:
        (N, D).
    """
    arguments = {} if attention_mask is None else {"attention_mask": attention_mask}
    return _pooled(model.get_text_features(input_ids=input_ids, **arguments))


def pair_features(
    model: PreTrainedModel, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None
) -> dict[str, Tensor]:
    """``images`` and ``texts``: the features (N, D) of both halves of N pairs, not normalized; arguments as above."""
    texts = text_features(model, input_ids, attention_mask)
    return {"images": image_features(model, pixel_values), "texts": texts}


def require_two_towers(model: PreTrainedModel, method: str) -> None:
    """Refuses an encoder of images alone, and towers without a learned scale of their similarities.

    Raises:
        ValueError: The model has no text tower or no scale, which the method needs.
    """
    if not is_two_towers(model):
        raise ValueError(
            f"{method} needs a backbone with an image and a text tower, and {model.config.model_type!r} has none for texts: "
            "take model_type clip, siglip or vision-text-dual-encoder"
        )
    if getattr(model, "logit_scale", None) is None:
        raise ValueError(
            f"{method} learns the scale of the similarities, and {model.config.model_type!r} has none (logit_scale): "
            "take model_type clip, siglip or vision-text-dual-encoder"
        )


def _image_config(model: PreTrainedModel) -> Any:
    """The configuration of the image tower, which FLAVA calls otherwise."""
    return getattr(model.config, "vision_config", None) or getattr(model.config, "image_config", None)


def _pooled(features) -> Tensor:
    found = features if isinstance(features, Tensor) else features.pooler_output  # the former in older transformers
    several = isinstance(found, Tensor) and found.ndim == 3
    return found[:, 0] if several else found  # FLAVA projects every token; its contrastive loss takes the first


def freeze_tower(model: PreTrainedModel, tower: str, loaded: Collection[str]) -> list[str]:
    """Keeps the released weights of one tower as they are; what starts at random in it is trained all the same.

    Without a gradient to compute, the tower's forward pass keeps no activations.

    Args:
        model: A model with two towers.
        tower: ``vision`` or ``text``.
        loaded: Names of the model's tensors that have released weights.

    Returns:
        Names of the tower's parameters that are still trained.
    """
    trained = []
    for name, parameter in model.named_parameters():
        if name.startswith(f"{tower}_model."):
            if name in loaded:
                parameter.requires_grad_(False)
            elif parameter.requires_grad:
                trained.append(name)
    return trained
