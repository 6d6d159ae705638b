"""The features of an encoder, one vector per image: their computation, width, and expression in Python."""

import inspect
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ArgumentError
from .blank_image import in_eval_mode, needs_memory, on_blank_image, on_meta
from .channels import COLORS, channels_of
from .families import family_of
from .family import Family, stages
from .pooling import Pooling, count_class_tokens, find_pooling
from .two_towers import is_two_towers

# Widths of features that were measured, by the ``feature_pooling`` of the configuration.
_WIDTHS: weakref.WeakKeyDictionary[PreTrainedModel, dict[str | None, int]] = weakref.WeakKeyDictionary()


def feature_size(encoder: PreTrainedModel) -> int:
    """Width D of the features that :func:`encode` returns: that of a blank image's.

    Where the configuration says a width, the image is encoded without memory for weights, and what the configuration says is taken
    only where that cannot be done. It may be wrong: FocalNet's ``hidden_sizes`` do not follow its ``embed_dim``.

    Raises:
        ArgumentError: It gives no features of an image.
    """
    stated = family_of(encoder).width(encoder)
    if stated is None:
        return on_blank_image(encoder, encode).shape[1]
    known = _WIDTHS.setdefault(encoder, {})
    pooling = getattr(encoder.config, "feature_pooling", None)
    if pooling not in known:
        known[pooling] = _width_without_memory(encoder) or stated
    return known[pooling]


def _width_without_memory(encoder: PreTrainedModel) -> int | None:
    """Width of the features of an image on the device ``meta``; None where that does not show."""
    if family_of(encoder).from_processor is not Family.from_processor:
        return None  # it needs colors first
    if any(module._forward_pre_hooks or module._forward_hooks for module in encoder.modules()):
        return None  # such as those that gather sharded weights
    try:
        return on_blank_image(on_meta(encoder), encode, build=False).shape[1]
    except Exception:  # every architecture fails in its own way over what has no values
        return None


def encode(encoder: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """One feature vector for every image: where :func:`pooling_of` finds it; of two towers the projection.

    The mean of the patches' tokens is taken where the architecture has nothing else (I-JEPA, Hiera's released encoders; of
    ImageGPT the tokens that predict a pixel, see :mod:`.pixel_sequence`), and where the configuration has
    ``feature_pooling = "mean"``, which methods set whose class token no loss trains.

    Args:
        encoder: A transformers vision model, or one with an image and a text tower.
        pixel_values: (N, C, H, W), normalized; any size that the encoder takes (position embeddings are interpolated). For
            ImageGPT scaled to [-1, 1]: its configuration's ``clusters`` make the tokens.

    Returns:
        (N, D).
    """
    family = family_of(encoder)
    if family.features is not None:
        return family.features(encoder, pixel_values)
    outputs = _run(encoder, pixel_values)
    return _pooling(encoder, outputs)(outputs)


def pooling_of(encoder: PreTrainedModel, sizes: Sequence[int] = ()) -> Pooling | None:
    """In which output of an encoder its features are, and how they are read from it, found from a blank image.

    Args:
        encoder: The encoder.
        sizes: Sides of images that it takes, in pixels; those of its configuration and common ones are tried after them.

    Returns:
        None where they are more than a part of its outputs: of two towers, of ImageGPT and others whose family has an
        ``expression``.

    Raises:
        ArgumentError: It gives no features of an image.
    """
    if family_of(encoder).features is not None:
        return None
    return on_blank_image(encoder, lambda model, pixels: _pooling(model, _run(model, pixels)), sizes)


def feature_expression(encoder: PreTrainedModel, sizes: Sequence[int] = ()) -> str:
    """The features of :func:`encode` as one writes them with plain transformers: what the card tells its reader.

    In terms of the ``model`` and the ``pixel_values`` where the model has two towers, else of its ``outputs``; arguments as those of
    :func:`pooling_of`.
    """
    pooling = pooling_of(encoder, sizes)
    return family_of(encoder).expression if pooling is None else pooling.expression


def _run(encoder: PreTrainedModel, pixel_values: Tensor) -> Any:
    """The outputs of an encoder of images, its position embeddings interpolated where the size is another than its own."""
    arguments = {}
    if "interpolate_pos_encoding" in inspect.signature(encoder.forward).parameters:
        arguments["interpolate_pos_encoding"] = interpolates(encoder, pixel_values.shape[-2:])
    return encoder(pixel_values, **arguments, **family_of(encoder).arguments(encoder, pixel_values))


def interpolates(encoder: PreTrainedModel, size: Sequence[int]) -> bool:
    """Whether an encoder of images has to be told to interpolate its position embeddings to images of this height and width."""
    if "interpolate_pos_encoding" not in inspect.signature(encoder.forward).parameters:
        return False
    own = getattr(encoder.config, "image_size", None)
    return ([own, own] if isinstance(own, int) else list(own or ())) != list(size)


def _pooling(encoder: PreTrainedModel, outputs: Any) -> Pooling:
    family = family_of(encoder)
    return find_pooling(
        outputs,
        _class_tokens(encoder),
        registers=_register_tokens(encoder),
        mean=pools_patches(encoder),
        channels_last=family.channels_last(encoder),
        pooled_output=family.pooled_output,
    )


def pools_patches(encoder: PreTrainedModel) -> bool:
    """Whether the features are the mean of the patches' tokens, whatever else the outputs have."""
    return getattr(encoder.config, "feature_pooling", None) == "mean" or family_of(encoder).pools_patches


def tokens_before_patches(encoder: PreTrainedModel) -> int:
    """How many tokens of a ViT-like encoder's output are not those of patches: class and register tokens."""
    return _class_tokens(encoder) + _register_tokens(encoder)


def _class_tokens(encoder: PreTrainedModel) -> int:
    known = family_of(encoder).class_tokens
    return count_class_tokens(encoder) if known is None else known


def _register_tokens(encoder: PreTrainedModel) -> int:
    return getattr(encoder.config, "num_register_tokens", None) or 0


def check_image_size(encoder: PreTrainedModel, size: int, where: str, channels: int | None = COLORS) -> None:
    """Encodes one image of ``size`` pixels, so that a size the encoder cannot take stops before the training starts.

    On the device ``meta`` nothing is computed, and nothing is said of an encoder that cannot be run there.

    Args:
        encoder: The encoder.
        size: Side of the image, in pixels.
        where: What has this size, for the error.
        channels: Of the image; None: as many as the encoder takes.

    Raises:
        ArgumentError: The encoder cannot take it.
    """
    patch = patch_size(encoder)
    tower = encoder.vision_model if is_two_towers(encoder) else encoder
    name = getattr(tower.config, "architecture", None) or tower.config.model_type
    if patch is not None and size % patch:
        raise ArgumentError(
            f"{where} is {size} px, but encoder '{name}' cuts patches of {patch} px: "
            f"use a multiple, such as {max(size // patch, 1) * patch} or {max(size // patch + 1, 2) * patch}"
        )
    channels = channels_of(encoder) if channels is None else channels
    require_channels(encoder, channels)
    problem = family_of(tower).size_problem(tower, size)
    parameter = next(encoder.parameters())
    try:
        with in_eval_mode(encoder), torch.device(parameter.device):
            encode(encoder, torch.zeros(1, channels, size, size, dtype=parameter.dtype))
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        if parameter.is_meta and needs_memory(error):
            return  # it cannot be told without values
        hint = family_of(tower).size_hint
        why = f": {problem}" if problem else f" ({error})"
        raise ArgumentError(f"{where} is {size} px, which encoder '{name}' cannot take{why}{hint}") from error


def require_channels(encoder: PreTrainedModel, channels: int = COLORS) -> None:
    """Refuses an encoder of images that have another number of channels than the views have.

    Raises:
        ArgumentError: It has.
    """
    tower = getattr(encoder, "vision_model", encoder) if is_two_towers(encoder) else encoder
    if (own := channels_of(encoder)) != channels:
        name = getattr(tower.config, "architecture", None) or tower.config.model_type
        raise ArgumentError(
            f"encoder '{name}' takes images of {own} {'channel' if own == 1 else 'channels'} (num_channels, in timm in_chans), and "
            f"images are read with {channels} ({COLORS} are color, which gray ones are read as too): take other weights, or leave "
            "the number out of an architecture"
        )


def patch_size(encoder: PreTrainedModel) -> int | None:
    """Side of the patches of a ViT-like encoder, which needs whole ones; None for convolutional or hierarchical encoders."""
    if is_two_towers(encoder):
        return patch_size(encoder.vision_model)
    patch = family_of(encoder).patch(encoder)
    patch = patch[0] if isinstance(patch, list | tuple) else patch
    return patch if isinstance(patch, int) else None


def is_hierarchical(encoder: PreTrainedModel) -> bool:
    """Whether a transformers encoder has stages, each of a coarser map than the one before, as Swin has."""
    return stages(encoder.config) is not None


def coarsest_stride(encoder: PreTrainedModel) -> int:
    """Pixels between two neighbors in the last hidden state of an encoder of patches: their side, doubled by each further stage."""
    return encoder.config.patch_size * 2 ** (len(stages(encoder.config) or [1]) - 1)
