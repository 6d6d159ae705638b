"""What fine-tuning changes of an encoder: all of it; of one that was trained by adapters, or with its image tower locked, no more than that."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ..encoders.lora import lora_layers, merged_encoder
from ..encoders.new_adapters import adapter_settings, add_new_adapters

_TOWER = "vision_model."


@dataclass(frozen=True)
class Tuned:
    """What of an encoder is fine-tuned. By default all of it, also what only its pretraining had frozen.

    Args:
        adapters: Settings of the LoRA adapters that it was trained by, see ``hfcontrast.encoders.new_adapters``: theirs are merged
            into its weights, and new ones are trained. None: those of the encoder, if it has some.
        locked: Whether its image tower was locked, so that of two towers no more than the projection is trained.
    """

    adapters: Mapping[str, Any] | None = None
    locked: bool = False

    def told(self, encoder: PreTrainedModel) -> str | None:
        """What is trained, where that is not all of the encoder."""
        adapters = self.adapters or adapter_settings(encoder)
        if adapters:
            return ", ".join([f"new adapters of rank {adapters['r']}", *(adapters.get("modules_to_save") or ())])
        return "all but the locked image tower" if self.locked else None


def tuned_copy(encoder: PreTrainedModel, tuned: Tuned, seed: int) -> PreTrainedModel:
    """A copy of an encoder in float32, as if it had been published and loaded; what is to be trained requires gradients.

    Args:
        encoder: It stays as it is.
        tuned: What is to be trained.
        seed: Of new adapters.
    """
    adapters = tuned.adapters or adapter_settings(encoder)
    copied = (merged_encoder(encoder) if lora_layers(encoder) else copy.deepcopy(encoder)).float()
    for tensor in (*copied.parameters(), *copied.buffers()):
        # Other memory formats round otherwise; contiguous() keeps that of a 1 x 1 convolution.
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)
    names = set(trainable_names(copied))
    for name, parameter in copied.named_parameters():
        parameter.requires_grad_(name in names and not (tuned.locked and name.startswith(_TOWER)))
    if adapters:
        with torch.random.fork_rng():  # equal on all processes, whose generators differ
            torch.manual_seed(seed)
            add_new_adapters(copied, adapters)
    return copied


def trainable_names(encoder: nn.Module) -> list[str]:
    """The parameters that features depend on and that can be trained: all but mask tokens, and a pooler that only copies the class token."""
    copies = _copies_the_class_token(encoder)
    return [
        name
        for name, _ in encoder.named_parameters()
        if not (name.endswith("mask_token") or (copies and name.startswith("pooler.")))
    ]


def _copies_the_class_token(encoder: nn.Module) -> bool:
    """Whether it has the pooler with which ViTs are published: a linear layer that changes nothing."""
    layer = getattr(getattr(encoder, "pooler", None), "dense", None)
    if not isinstance(layer, nn.Linear) or layer.in_features != layer.out_features or layer.bias is None:
        return False
    identity = torch.eye(layer.in_features, device=layer.weight.device, dtype=layer.weight.dtype)
    return torch.equal(layer.weight, identity) and not layer.bias.any()
