"""What architectures of this package need to load from an exported folder under transformers 4 (from 4.57) as well as under 5.

This file is self-contained: an exported encoder carries it along.
"""

import copy
from typing import Any

from transformers import PreTrainedModel

try:
    from huggingface_hub.dataclasses import strict
    from transformers import PreTrainedConfig
    from transformers import initialization as init
except ImportError:  # transformers 4, whose configurations are no dataclasses
    from torch.nn import init  # type: ignore[no-redef]
    from transformers import PretrainedConfig

    class PreTrainedConfig(PretrainedConfig):  # type: ignore[no-redef]
        """A configuration that is written as those of transformers 5 are: by its fields and ``__post_init__``."""

        def __post_init__(self, **kwargs):
            PretrainedConfig.__init__(self, **kwargs)

    def strict(cls):  # type: ignore[no-redef]
        """Gives a configuration an ``__init__`` that takes the fields of its class; their types are not checked."""

        def initialize(self, **kwargs):
            for name in cls.__dict__.get("__annotations__", {}):
                setattr(self, name, kwargs.pop(name) if name in kwargs else copy.copy(getattr(cls, name)))
            self.__post_init__(**kwargs)

        cls.__init__ = initialize
        return cls


def finish_parent(parent: Any, fields: dict[str, Any], others: dict[str, Any]) -> None:
    """Initializes the rest of a configuration whose class derives from one of transformers' own.

    Args:
        parent: ``super()`` of the configuration.
        fields: Fields of the parent's class that the configuration has decided.
        others: What else it was made with.
    """
    if hasattr(parent, "__post_init__"):
        parent.__post_init__(**others)
    else:
        parent.__init__(**{**others, **fields})


class AutoMapped:
    """A model whose ``config.json`` names the classifier of its architecture beside it, for transformers' Auto classes.

    transformers itself writes the class that is saved, and no other.

    Attributes:
        auto_classes: Auto classes to the classes of this architecture, as ``auto_map`` of ``config.json`` has them.
    """

    auto_classes: dict[str, str] = {}

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As that of every model of transformers."""
        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **self.auto_classes}
        return super().save_pretrained(save_directory, *args, **kwargs)


def can_recompute(model: Any) -> bool:
    """Whether a model of transformers can compute its activations again in the backward pass (gradient checkpointing)."""
    own = type(model)._set_gradient_checkpointing is not PreTrainedModel._set_gradient_checkpointing
    layers = any(hasattr(module, "gradient_checkpointing") for module in model.modules())
    return bool(getattr(model, "supports_gradient_checkpointing", False)) and (own or layers)


__all__ = ["AutoMapped", "PreTrainedConfig", "can_recompute", "finish_parent", "init", "strict"]
