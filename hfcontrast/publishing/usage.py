"""How plain transformers gives the features that were evaluated: the lines that cards, runs and README show."""

import inspect
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from ..encoders.families import family_of
from ..encoders.features import feature_expression, pools_patches
from ..encoders.two_towers import is_two_towers


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
    """

    features: str
    arguments: str
    image_tower: str | None
    pipeline: str | None
    pooled: bool


def usage(encoder: PreTrainedModel, size: int) -> Usage:
    """How the features of an encoder are read once it is published.

    Args:
        encoder: As it is evaluated.
        size: Side of the images that the published processor makes, in pixels.
    """
    expression = feature_expression(encoder)
    if is_two_towers(encoder):
        family = family_of(encoder)
        own = getattr(encoder.config.vision_config, "image_size", size) in (size, [size, size])
        arguments = "" if own else ", interpolate_pos_encoding=True"
        piped = None if family.image_tower is None or not own else _piped("", family.pools_image_tower)
        return Usage(expression, arguments, family.image_tower, piped, family.pools_image_tower)
    takes_any = "interpolate_pos_encoding" not in inspect.signature(encoder.forward).parameters
    own = takes_any or getattr(encoder.config, "image_size", None) in (size, [size, size])
    pooled = identity_pooler(encoder) is not None and not pools_patches(encoder)
    pooled = pooled or "pooler_output" in expression
    rest = ".flatten(1)" if pooled else expression.partition("last_hidden_state")[2]
    piped = _piped(rest, pooled) if own else None
    return Usage(expression, "" if own else ", interpolate_pos_encoding=True", None, piped, pooled)


def _piped(rest: str, pooled: bool) -> str:
    return f"pipe(image{', pool=True' if pooled else ''}, return_tensors=True){rest}"


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
