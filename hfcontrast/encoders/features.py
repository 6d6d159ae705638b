"""The features of an encoder as one vector an image: how they are computed, how wide they are, how one writes them."""

import inspect

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..errors import ArgumentError
from .families import family_of, stages
from .two_towers import is_two_towers


def feature_size(encoder: PreTrainedModel) -> int:
    """Width D of the features that :func:`encode` returns.

    Raises:
        ArgumentError: The configuration does not say it.
    """
    if (width := family_of(encoder).width(encoder)) is None:
        raise ArgumentError(
            f"the configuration of {encoder.config.model_type!r} does not say how wide its features are (hidden_size): take an "
            "encoder of images, such as vit, or the image tower alone"
        )
    return width


def encode(encoder: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """One feature vector for every image: the encoder's pooled output, else the class token; of two towers the projection.

    The mean of the patches' tokens is taken where the architecture has nothing else (I-JEPA; of ImageGPT the tokens that predict
    a pixel, see :mod:`.pixel_sequence`), and where the configuration has ``feature_pooling = "mean"``, which methods set whose
    class token no loss trains.

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
    arguments = {}
    if "interpolate_pos_encoding" in inspect.signature(encoder.forward).parameters:
        size = getattr(encoder.config, "image_size", None)
        arguments["interpolate_pos_encoding"] = size not in (pixel_values.shape[-1], list(pixel_values.shape[-2:]))
    outputs = encoder(pixel_values, **arguments, **family.arguments(encoder, pixel_values))
    if pools_patches(encoder):
        return outputs.last_hidden_state[:, tokens_before_patches(encoder) :].mean(dim=1)
    pooled = getattr(outputs, "pooler_output", None)
    if pooled is None:
        return outputs.last_hidden_state[:, 0]
    return pooled.flatten(1)


def pools_patches(encoder: PreTrainedModel) -> bool:
    """Whether the features are the mean of the patches' tokens."""
    return getattr(encoder.config, "feature_pooling", None) == "mean" or family_of(encoder).pools_patches


def tokens_before_patches(encoder: PreTrainedModel) -> int:
    """How many tokens of a ViT-like encoder's output are not those of patches: class and register tokens."""
    return family_of(encoder).class_tokens + (getattr(encoder.config, "num_register_tokens", None) or 0)


def feature_expression(encoder: PreTrainedModel) -> str:
    """The features of :func:`encode` as one writes them with plain transformers: what the card tells its reader.

    In terms of the ``model`` and the ``pixel_values`` where the model has two towers, else of its ``outputs``.
    """
    if (expression := family_of(encoder).expression) is not None:
        return expression
    if pools_patches(encoder):
        first = tokens_before_patches(encoder)
        return f"outputs.last_hidden_state{f'[:, {first}:]' if first else ''}.mean(1)"
    return "outputs.pooler_output.flatten(1)" if gives_pooled_output(encoder) else "outputs.last_hidden_state[:, 0]"


@torch.no_grad()
def gives_pooled_output(encoder: PreTrainedModel) -> bool:
    """Whether an encoder of images has a ``pooler_output``; where no module of that name says so, a blank image does.

    ViTMAE, ViT-MSN and PVT, for example, have none.
    """
    if family_of(encoder).always_pooled or getattr(encoder, "pooler", None) is not None:
        return True
    if hasattr(encoder, "pooler"):  # left out, see build_encoder
        return False
    size = getattr(encoder.config, "image_size", None) or 64
    height, width = (size, size) if isinstance(size, int) else size
    parameter = next(encoder.parameters())
    pixels = torch.zeros(1, getattr(encoder.config, "num_channels", None) or 3, height, width)
    training = encoder.training
    try:
        outputs = encoder.eval()(pixels.to(parameter.device, parameter.dtype))
    finally:
        encoder.train(training)
    return getattr(outputs, "pooler_output", None) is not None


@torch.no_grad()
def check_image_size(encoder: PreTrainedModel, size: int, where: str) -> None:
    """Encodes one image of ``size`` pixels, so that a size the encoder cannot take stops before the training starts.

    Args:
        encoder: The encoder.
        size: Side of the image, in pixels.
        where: What has this size, for the error.

    Raises:
        ArgumentError: The encoder cannot take it.
    """
    patch = patch_size(encoder)
    tower = encoder.vision_model if is_two_towers(encoder) else encoder
    name = getattr(tower.config, "architecture", None) or tower.config.model_type
    if patch is not None and size % patch:
        raise ArgumentError(
            f"{where} is {size} px, but encoder '{name}' cuts patches of {patch} px: "
            f"use a multiple, such as {max(size // patch, 1) * patch} or {(size // patch + 1) * patch}"
        )
    parameter = next(encoder.parameters())
    training = encoder.training
    try:
        encode(encoder.eval(), torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        hint = family_of(tower).size_hint
        raise ArgumentError(f"{where} is {size} px, which encoder '{name}' cannot take ({error}){hint}") from error
    finally:
        encoder.train(training)


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
