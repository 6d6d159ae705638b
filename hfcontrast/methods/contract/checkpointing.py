"""Gradient checkpointing of a method, which is its encoder's: heads are small, and teachers keep no activations."""

from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel

from ...encoders.exported_code import can_recompute
from ...encoders.families import family_of
from ...errors import ArgumentError
from ...nn.running_statistics import hold_when_recomputed

if TYPE_CHECKING:
    from ..base import Method

_NEWEST = "activation_checkpointing_enable"
ENABLE = _NEWEST if hasattr(PreTrainedModel, _NEWEST) else "gradient_checkpointing_enable"  # as transformers calls it


def encoder_can(encoder: nn.Module) -> bool:
    """Whether an encoder can compute its activations again in the backward pass."""
    return all(can_recompute(part) for part in family_of(encoder).recomputed(encoder))


def enable(method: "Method", *values: Any, **options: Any) -> None:
    """What transformers calls ``activation_checkpointing_enable`` (before, ``gradient_checkpointing_enable``), with its arguments.

    Raises:
        ArgumentError: The encoder cannot.
    """
    if not method.supports_gradient_checkpointing:
        raise ArgumentError(
            f"the encoder '{method.encoder.config.model_type}' of {type(method).__name__} cannot compute its activations again in the "
            "backward pass (gradient checkpointing); those of timm, ViTs and small_resnet can"
        )
    getattr(PreTrainedModel, ENABLE)(method, *values, **options)


def set_recomputed(method: "Method", enabled: bool, options: dict[str, Any]) -> None:
    """Switches it on or off in the encoder; batch statistics are then counted once for each step.

    Args:
        method: The method.
        enabled: On or off.
        options: What transformers passes on to the parts.
    """
    for part in family_of(method.encoder).recomputed(method.encoder):
        part._set_gradient_checkpointing(enable=enabled, **options)  # type: ignore[operator]
        if enabled and (part.main_input_name == "input_ids" or getattr(part, "_hf_peft_config_loaded", False)):
            part.enable_input_require_grads()  # type: ignore[operator]
    if enabled:
        hold_when_recomputed(method)


def keep_activations(copied: nn.Module) -> None:
    """Switches it off in the copy of an encoder, which gets no gradients: there is no backward pass."""
    for part in copied.modules():
        if isinstance(part, PreTrainedModel) and can_recompute(part):
            part._set_gradient_checkpointing(enable=False)
