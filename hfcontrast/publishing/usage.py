"""How plain transformers gives the features that were evaluated: the lines that cards, runs and README show."""

import copy
import inspect
from dataclasses import dataclass

import torch
from torch import nn
from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, PreTrainedModel

from ..encoders.blank_image import on_blank_image
from ..encoders.families import family_of
from ..encoders.features import feature_expression, interpolates, pooling_of
from ..encoders.pooling import Pooling
from ..encoders.two_towers import is_two_towers
from ..nn.random import generator_kept


@dataclass(frozen=True)
class Usage:
    """Lines of Python around a published folder.

    Attributes:
        features: The features in terms of the model's ``outputs`` (of two towers, of ``model`` and ``pixel_values``), (1, D).
        arguments: Further arguments of the model's call, behind a comma, or nothing.
        image_tower: The class of transformers that loads the image tower alone, to be used in a pipeline; None for encoders
            of images, which pipelines load themselves.
        pipeline: The features in terms of ``pipe``, an image-feature-extraction pipeline, and ``image``, (1, D); None where
            pipelines cannot give them.
        pooled: Whether they are what that pipeline gives with ``pool=True``.
        classifier: Whether ``AutoModelForImageClassification`` puts a classifier on the published model.
        other_pooler: Whether the published model has a ``pooler_output`` all the same, which was not evaluated.
    """

    features: str
    arguments: str
    image_tower: str | None
    pipeline: str | None
    pooled: bool
    other_pooler: bool
    classifier: bool


_INTERPOLATED = ", interpolate_pos_encoding=True"


def usage(encoder: PreTrainedModel, size: int) -> Usage:
    """How the features of an encoder are read once it is published.

    Args:
        encoder: As it is evaluated.
        size: Side of the images that the published processor makes, in pixels.
    """
    family = family_of(encoder)
    if is_two_towers(encoder):
        own = getattr(encoder.config.vision_config, "image_size", size) in (size, [size, size], (size, size))
        arguments = "" if own else _INTERPOLATED
        piped = None if family.image_tower is None or not own else _piped("", family.pools_image_tower)
        pooler = family.pools_image_tower
        return Usage(
            feature_expression(encoder), arguments, family.image_tower, piped, pooler, not pooler, classified(encoder)
        )
    pooling = pooling_of(encoder, [size])
    expression = family.expression if pooling is None else pooling.expression
    class_token = pooling is not None and pooling.kind == "class_token"
    identity = class_token and identity_pooler(encoder) is not None
    pooled = identity or ".pooler_output" in expression
    arguments = _INTERPOLATED if interpolates(encoder, (size, size)) else ""
    piped = None
    if identity:
        piped = _piped(".flatten(1)", True)
    elif pooled:
        piped = _piped(expression.partition(".pooler_output")[2], True)
    elif (
        (first := _first_output(encoder, pooling)) and expression.startswith(first) and "pixel_values" not in expression
    ):
        piped = _piped(expression.removeprefix(first), False)
    other_pooler = pooling is not None and not pooled and _has_pooler(encoder)
    return Usage(expression, arguments, None, None if arguments else piped, pooled, other_pooler, classified(encoder))


def classified(encoder: PreTrainedModel) -> bool:
    """Whether transformers has a classifier of images for the architecture of an encoder."""
    return type(encoder.config) in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING


def _piped(rest: str, pooled: bool) -> str:
    return f"pipe(image{', pool=True' if pooled else ''}, return_tensors=True){rest}"


def _first_output(encoder: PreTrainedModel, pooling: Pooling | None) -> str:
    """The first of an encoder's outputs, which is what a pipeline gives, as one writes it."""
    if pooling is None:
        return "outputs.last_hidden_state"
    if pooling.output.startswith("["):
        return "outputs[0]"
    return on_blank_image(encoder, lambda model, pixels: f"outputs.{next(iter(model(pixels).keys()))}")


def _has_pooler(encoder: PreTrainedModel) -> bool:
    """Whether ``AutoModel`` gives the published encoder a ``pooler_output``."""
    if "add_pooling_layer" in inspect.signature(type(encoder).__init__).parameters and not getattr(
        encoder, "pooler", None
    ):
        return bool(identity_pooler(encoder) or neutral_pooler(encoder))
    outputs = on_blank_image(encoder, lambda model, pixels: model(pixels))
    return getattr(outputs, "pooler_output", None) is not None


def identity_pooler(encoder: PreTrainedModel) -> dict[str, torch.Tensor] | None:
    """Weights with which the pooler that ``AutoModel`` adds to an encoder returns the class token as it is.

    The encoders of this package leave out poolers that no loss trains; ``AutoModel``, which builds every ViT with one, would
    draw one at random. They hold with ``pooler_act: linear`` in the configuration.

    Returns:
        By their names; None where ``AutoModel`` adds none of this kind.
    """
    default = inspect.signature(type(encoder).__init__).parameters.get("add_pooling_layer")
    if getattr(encoder, "pooler", True) is not None or default is None or default.default is not True:
        return None
    if not hasattr(encoder.config, "pooler_act"):
        return None
    width, dtype = encoder.config.hidden_size, next(encoder.parameters()).dtype
    return {"pooler.dense.weight": torch.eye(width, dtype=dtype), "pooler.dense.bias": torch.zeros(width, dtype=dtype)}


def neutral_pooler(encoder: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Weights for the pooler that ``AutoModel`` adds to an encoder that has left it out, as BEiT and YOLOS: identities and zeros.

    The features do not come from it.

    Returns:
        By their names; nothing where ``AutoModel`` adds none.
    """
    default = inspect.signature(type(encoder).__init__).parameters.get("add_pooling_layer")
    if getattr(encoder, "pooler", True) is not None or default is None or default.default is not True:
        return {}
    with generator_kept(), torch.device("meta"):
        whole = type(encoder)(copy.deepcopy(encoder.config))
    if not isinstance(whole.pooler, nn.Module):
        return {}
    dtype, weights = next(encoder.parameters()).dtype, {}
    for name, value in whole.pooler.named_parameters(prefix="pooler"):
        if value.ndim == 2:
            weights[name] = torch.eye(*value.shape, dtype=dtype)
        else:
            weights[name] = torch.full(value.shape, float(name.endswith("weight")), dtype=dtype)
    return weights
