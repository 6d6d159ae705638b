"""Which architectures can be an encoder of images: told from the configuration, and from a blank image without memory for weights."""

import inspect
from collections.abc import Sequence

from torch import nn
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel

from ..errors import ArgumentError
from .blank_image import needs_memory, on_blank_image
from .config import TIMM
from .families import family_of, family_of_type
from .family import Family
from .features import encode
from .tower_configs import is_two_towers_config

_EXAMPLE = "take an encoder of images, such as vit, convnext or timm/ARCHITECTURE"


def require_encoder(config: PreTrainedConfig) -> None:
    """Refuses an architecture whose models are not called with images alone; those with an image and a text tower are let pass.

    Args:
        config: Its configuration.

    Raises:
        ArgumentError: In one sentence, with what to take instead.
    """
    family, name = family_of_type(config.model_type), repr(config.model_type)
    if family.refusal is not None:
        raise ArgumentError(f"{name} {family.refusal}: {_instead(config)}")
    if family.features is not None or is_two_towers_config(config):
        return  # called in their own ways
    model_class = _model_class(config)
    if model_class is None:
        if _of_transformers(config):
            raise ArgumentError(f"transformers' AutoModel does not build {name}: {_instead(config)}")
        return
    first, *others = _inputs(model_class)
    if first == model_class.main_input_name not in ("input_ids", "pixel_values") and not (
        others or _of_transformers(config)
    ):
        return  # a plugin's, of signals
    if "pixel_values" not in inspect.signature(model_class.forward).parameters:
        raise ArgumentError(f"{name} takes no images (pixel_values): {_instead(config)}")
    if beside := [other for other in (first, *others) if other != "pixel_values"]:
        raise ArgumentError(f"{name} needs {', '.join(beside)} beside the images: {_instead(config)}")


def _of_transformers(config: PreTrainedConfig) -> bool:
    return type(config).__module__.startswith("transformers.")


def image_tower(config: PreTrainedConfig) -> str | None:
    """The model_type of the image tower of a model with two, where that can be an encoder by itself."""
    tower = getattr(config, "vision_config", None)
    if not isinstance(tower, PreTrainedConfig):
        return None
    try:
        require_encoder(tower)
    except ArgumentError:
        return None
    return tower.model_type


def require_features(encoder: PreTrainedModel, sizes: Sequence[int] = ()) -> None:
    """Refuses an encoder that gives no feature vector for an image; without memory for its weights that takes next to no time.

    Nothing is said where that does not show: of an encoder that cannot be run without memory, or that needs an image processor's
    colors first, as ImageGPT does.

    Args:
        encoder: The encoder.
        sizes: Sides of the images that it is to encode, in pixels; one that it cannot take is not refused where others are taken, see
            :func:`~.features.check_image_size`.

    Raises:
        ArgumentError: In one sentence.
    """
    if takes_a_blank_image(encoder):
        try:
            on_blank_image(encoder, encode, sizes, build=False)
        except ArgumentError as error:
            if not needs_memory(error.__cause__):
                raise


def takes_a_blank_image(encoder: PreTrainedModel) -> bool:
    """Whether an encoder can be run before an image processor, or the data, has said what it needs, as ImageGPT needs its colors."""
    return family_of(encoder).from_processor is Family.from_processor


def _model_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """What ``AutoModel`` builds of a configuration; None where it builds nothing."""
    try:
        found = MODEL_MAPPING[type(config)]
    except (KeyError, ValueError, ImportError):
        return None
    return found[0] if isinstance(found, tuple) else found


def _inputs(model_class: type[nn.Module]) -> list[str]:
    """The first input of a model's call, and the others that have no default."""
    first, *others = list(inspect.signature(model_class.forward).parameters.values())[1:]
    return [first.name, *(p.name for p in others if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD)]


def _instead(config: PreTrainedConfig) -> str:
    """The image tower of a model of images and texts, where it can be an encoder by itself."""
    for name in ("vision_config", "backbone_config"):
        tower = getattr(config, name, None)
        if isinstance(tower, PreTrainedConfig) and tower.model_type not in (TIMM, "timm_backbone"):
            try:
                require_encoder(tower)
            except ArgumentError:
                continue
            return f"take the encoder that it has for images, model_type: {tower.model_type}"
    return _EXAMPLE
