"""An encoder that is given in Python: a model of transformers or timm, a folder or a name on the Hub, as configuration and weights."""

import copy
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModel, PreTrainedConfig, PreTrainedModel

from ..errors import ArgumentError
from .config import TIMM
from .families import family_of, family_of_type
from .family import Family
from .model_config import in_float32
from .pretrained import missing_keys, read_pretrained
from .timm_given import config_of_timm_model, is_timm_model
from .timm_models import WEIGHT_PREFIX
from .weights import tensors_of

_EXPECTED = "a model of transformers (AutoModel.from_pretrained(...)), a model of timm (timm.create_model(...)), or the folder or Hub name of one"


class Given(NamedTuple):
    """An encoder that was given.

    Attributes:
        name: What it is called in messages.
        config: Configuration of the encoder that is built.
        tensors: Its weights, by the names of that encoder's modules.
        frozen: Names of the parameters among them that are not trained (``requires_grad``).
        module: The model of timm that was given; None for all others.
    """

    name: str
    config: PreTrainedConfig
    tensors: Mapping[str, Tensor]
    frozen: frozenset[str] = frozenset()
    module: nn.Module | None = None


def read_given(encoder: Any, sizes: list[int], with_texts: bool = False) -> Given:
    """Configuration and weights of an encoder.

    Args:
        encoder: A model of transformers, whose head for a task is left out; a model of timm; a folder or a name on the Hub.
        sizes: Sides of the images that it is to take, in pixels.
        with_texts: Whether a model with an image and a text tower is wanted; else the image tower of one is taken.

    Raises:
        ArgumentError: It is none of these, or cannot be read.
    """
    name, read, drawn, module = type(encoder).__name__, None, set[str](), None
    if isinstance(encoder, str | os.PathLike):
        name = read = os.fspath(encoder)
        encoder, drawn = _read(read)
    if is_timm_model(encoder):
        config = config_of_timm_model(encoder)
        tensors = {WEIGHT_PREFIX + key: value for key, value in encoder.state_dict().items()}
        module, frozen = encoder, {WEIGHT_PREFIX + key for key in _frozen(encoder)}
    else:
        encoder = _body(encoder)
        config, tensors, frozen = _of_transformers(encoder, with_texts, drawn)
    if any(value.is_meta for value in tensors.values()):
        raise ArgumentError(
            "encoder: its weights are on the meta device, where they have no values: load it on a device, as AutoModel.from_pretrained(NAME) does"
        )
    in_float32(config)
    if read is None or os.path.isdir(read):
        config.name_or_path = ""  # a path of this machine, which saved methods would tell
    images = getattr(config, "vision_config", config)
    family = family_of_type(images.model_type)
    family.accept_sizes(images, sizes)
    if read is not None and not with_texts:
        family.from_processor(config, lambda: read_pretrained(AutoImageProcessor, read, "encoder"))
    return Given(name, config, tensors, frozenset(frozen & tensors.keys()), module)


def _frozen(encoder: nn.Module) -> set[str]:
    """The names of a model's parameters that are not trained."""
    return {name for name, value in encoder.named_parameters(remove_duplicate=False) if not value.requires_grad}


def _read(name: str) -> tuple[PreTrainedModel, set[str]]:
    """A model of a folder or the Hub, and the names of the tensors that its files do not have."""
    problem = "cannot be loaded"
    if not os.path.isfile(os.path.join(name, "config.json")):
        problem = "is neither a folder with a model nor a model on the Hub that can be reached"
    options: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True, "problem": problem}
    encoder, info = read_pretrained(AutoModel, name, "encoder", **options)
    return encoder, missing_keys(info)


def _body(encoder: Any) -> PreTrainedModel:
    """A model of transformers without its head for a task.

    Raises:
        ArgumentError: It is none, or one that holds an encoder: what to hand over is said.
    """
    if isinstance(encoder, nn.Module) and hasattr(encoder, "merge_and_unload"):
        raise ArgumentError("encoder: a model with adapters of peft: merge them first, encoder.merge_and_unload()")
    if hasattr(encoder, "export_encoder"):
        raise ArgumentError(
            f"encoder: {type(encoder).__name__} is a method of hfcontrast: give its encoder, as export_encoder() returns it, or load that with "
            "AutoModel.from_pretrained"
        )
    if not isinstance(encoder, PreTrainedModel):
        raise ArgumentError(f"encoder: expected {_EXPECTED}; got {type(encoder).__name__}")
    body = encoder.base_model
    return body if isinstance(body, PreTrainedModel) and encoder.config.model_type != TIMM else encoder


def _of_transformers(
    encoder: PreTrainedModel, with_texts: bool, drawn: set[str]
) -> tuple[PreTrainedConfig, Mapping[str, Tensor], set[str]]:
    config = copy.deepcopy(encoder.config)
    if not with_texts:
        config = getattr(config, "vision_config", config)
    if config.model_type == TIMM:
        config.num_labels = 0
    if family_of(encoder).align is not Family.align:
        encoder = copy.deepcopy(encoder)  # it is the caller's
    tensors, frozen = tensors_of(encoder, None if with_texts else "vision", drawn), _frozen(encoder)
    return config, tensors, frozen if with_texts else {name.removeprefix("vision_model.") for name in frozen}
