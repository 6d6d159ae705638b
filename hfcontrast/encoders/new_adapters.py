"""New LoRA adapters in an encoder whose own are merged into its weights: of the same rank, on the same layers."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from .lora import ADAPTER, lora_layers

_SETTINGS = ("r", "lora_alpha", "lora_dropout")


def adapter_settings(encoder: PreTrainedModel) -> dict[str, Any] | None:
    """The settings of an encoder's adapters, by peft's names; None without adapters.

    Args:
        encoder: An encoder, with adapters or without.
    """
    if not lora_layers(encoder):
        return None
    found = encoder.peft_config[ADAPTER]
    modules = {"target_modules": sorted(found.target_modules), "modules_to_save": found.modules_to_save}
    return {name: getattr(found, name) for name in _SETTINGS} | modules


def add_new_adapters(encoder: PreTrainedModel, settings: Mapping[str, Any]) -> None:
    """Puts adapters into an encoder and freezes all else, but the modules that were trained beside the adapters before.

    Their first weights, which change nothing, are drawn from torch's global generator.

    Args:
        encoder: A native model without adapters, changed in place.
        settings: As :func:`adapter_settings` and an ``adapter_config.json`` have them.
    """
    from peft import LoraConfig, inject_adapter_in_model

    chosen = {name: settings[name] for name in _SETTINGS if name in settings}
    inject_adapter_in_model(LoraConfig(**chosen, target_modules=settings["target_modules"]), encoder, ADAPTER)
    beside = tuple(f"{name}." for name in settings.get("modules_to_save") or ())
    for name, parameter in encoder.named_parameters():
        if beside and name.startswith(beside) and ".lora_" not in name:
            parameter.requires_grad_(True)
