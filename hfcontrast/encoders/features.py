"""The encoder: a native transformers model (timm's through ``TimmWrapperModel``), and its features as one vector an image."""

import inspect
import math

import timm
import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, ViTMAEModel

from ..errors import RecipeError, out_of_memory
from .clip_initialization import initialize_towers
from .embedding_initialization import initialize_mae_embeddings
from .pixel_sequence import pixel_features
from .pretrained import reason
from .two_towers import image_features, is_two_towers


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Builds the encoder of a configuration with the initialization of its architecture.

    What ``AutoModel.from_config`` does is undone where it hurts: ``TimmWrapperModel`` overwrites timm's own
    initialization, a ViTMAE keeps positions and a class token of zeros, and ViT-like models get weights that no loss of
    unmasked images ever reaches, for which distributed training would wait in vain: a pooler, which is left out, and a mask
    token, which is frozen. Models with an image and a text tower start as their papers say (see
    :mod:`.clip_initialization`); a pooler in one of their towers is trained. A ViTMAE hides no patches by itself.
    An ImageGPT is trained without a start token in its sequences (see :mod:`.pixel_sequence`).

    Raises:
        RecipeError: The architecture cannot be built with this configuration.
    """
    if config.model_type == "vit_mae":
        config.mask_ratio = 0.0
    try:
        encoder = AutoModel.from_config(config, trust_remote_code=False)
    except MemoryError:
        raise
    except Exception as error:  # every architecture fails in its own way over a configuration that makes no sense
        if out_of_memory(error):
            raise
        raise RecipeError(f"backbone: transformers cannot build this {config.model_type!r}: {reason(error)}") from error
    if not next(encoder.parameters()).is_meta:
        if config.model_type == "imagegpt":
            config.start_token = encoder.config.start_token = False
        for part in (encoder, getattr(encoder, "vision_model", None)):
            if hasattr(part, "timm_model"):
                arguments = part.config.model_args or {}
                original = timm.create_model(part.config.architecture, num_classes=0, **arguments)
                part.timm_model.load_state_dict(original.state_dict())
        for part in encoder.modules():
            if isinstance(part, ViTMAEModel):  # the encoder, or one of a color view
                initialize_mae_embeddings(part)
        if is_two_towers(encoder):
            initialize_towers(encoder)
    accepts_no_pooler = "add_pooling_layer" in inspect.signature(type(encoder).__init__).parameters
    pooler = getattr(encoder, "pooler", None)
    if accepts_no_pooler and isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters()):
        encoder.pooler = None
    for name, parameter in encoder.named_parameters():
        if name.endswith("mask_token"):
            parameter.requires_grad_(False)
    return encoder


def feature_size(encoder: PreTrainedModel) -> int:
    """Width D of the features that :func:`encode` returns.

    Raises:
        RecipeError: The configuration does not say it.
    """
    if hasattr(encoder, "timm_model"):
        return getattr(encoder.timm_model, "head_hidden_size", None) or encoder.timm_model.num_features
    config = encoder.config
    if is_two_towers(encoder):
        return getattr(config, "projection_dim", None) or config.vision_config.hidden_size
    if hasattr(config, "hidden_size"):
        return config.hidden_size
    if not getattr(config, "hidden_sizes", None):
        raise RecipeError(
            f"backbone: the configuration of {config.model_type!r} does not say how wide its features are (hidden_size): take "
            "an encoder of images, such as vit, or the image tower alone"
        )
    return config.hidden_sizes[-1]


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
    if is_two_towers(encoder):
        return image_features(encoder, pixel_values)
    if encoder.config.model_type == "imagegpt":
        return pixel_features(encoder, pixel_values)
    arguments = {}
    if "interpolate_pos_encoding" in inspect.signature(encoder.forward).parameters:
        size = getattr(encoder.config, "image_size", None)
        arguments["interpolate_pos_encoding"] = size not in (pixel_values.shape[-1], list(pixel_values.shape[-2:]))
    if encoder.config.model_type == "vit_mae":  # shuffles the patches by noise, even where it hides none
        patches = math.prod(pixel_values.shape[-2:]) // encoder.config.patch_size**2
        arguments["noise"] = torch.arange(patches, device=pixel_values.device).expand(len(pixel_values), -1)
    outputs = encoder(pixel_values, **arguments)
    if pools_patches(encoder):
        return outputs.last_hidden_state[:, tokens_before_patches(encoder) :].mean(dim=1)
    pooled = getattr(outputs, "pooler_output", None)
    if pooled is None:
        return outputs.last_hidden_state[:, 0]
    return pooled.flatten(1)


def pools_patches(encoder: PreTrainedModel) -> bool:
    """Whether the features are the mean of the patches' tokens."""
    config = encoder.config
    return getattr(config, "feature_pooling", None) == "mean" or config.model_type in ("ijepa", "imagegpt")


def tokens_before_patches(encoder: PreTrainedModel) -> int:
    """How many tokens of a ViT-like encoder's output are not those of patches: class and register tokens."""
    if encoder.config.model_type in ("ijepa", "imagegpt"):
        return 0
    return 1 + (getattr(encoder.config, "num_register_tokens", None) or 0)


def feature_expression(encoder: PreTrainedModel) -> str:
    """The features of :func:`encode` as one writes them with plain transformers: what the card tells its reader.

    In terms of the ``model`` and the ``pixel_values`` where the model has two towers, else of its ``outputs``.
    """
    if encoder.config.model_type == "imagegpt":  # of one that is trained here
        return "outputs.last_hidden_state[:, :-1].mean(1)"
    if is_two_towers(encoder):
        return "model.get_image_features(pixel_values=pixel_values).pooler_output"
    if pools_patches(encoder):
        first = tokens_before_patches(encoder)
        return f"outputs.last_hidden_state{f'[:, {first}:]' if first else ''}.mean(1)"
    return "outputs.pooler_output.flatten(1)" if gives_pooled_output(encoder) else "outputs.last_hidden_state[:, 0]"


@torch.no_grad()
def gives_pooled_output(encoder: PreTrainedModel) -> bool:
    """Whether an encoder of images has a ``pooler_output``; where no module of that name says so, a blank image does.

    ViTMAE, ViT-MSN and PVT, for example, have none.
    """
    if hasattr(encoder, "timm_model") or getattr(encoder, "pooler", None) is not None:
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
    """Tries one picture of ``size`` pixels, so that a size the encoder cannot take stops before the training starts.

    Raises:
        RecipeError: The encoder cannot take it; ``where`` says which setting asks for it.
    """
    patch = patch_size(encoder)
    tower = encoder.vision_model if is_two_towers(encoder) else encoder
    name = getattr(tower.config, "architecture", None) or tower.config.model_type
    if patch is not None and size % patch:
        raise RecipeError(
            f"{where} is {size} px, but encoder '{name}' cuts patches of {patch} px: "
            f"use a multiple, such as {max(size // patch, 1) * patch} or {(size // patch + 1) * patch}"
        )
    parameter = next(encoder.parameters())
    training = encoder.training
    try:
        encode(encoder.eval(), torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype))
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        hint = ""
        if hasattr(tower, "timm_model"):
            hint = "; for a timm ViT set backbone.model_args: {img_size: SIZE, dynamic_img_size: true}"
        raise RecipeError(f"{where} is {size} px, which encoder '{name}' cannot take ({error}){hint}") from error
    finally:
        encoder.train(training)


def patch_size(encoder: PreTrainedModel) -> int | None:
    """Side of the patches of a ViT-like encoder, which needs whole ones; None for convolutional or hierarchical encoders."""
    if is_two_towers(encoder):
        return patch_size(encoder.vision_model)
    if hasattr(encoder, "timm_model"):
        strides = {stage["reduction"] for stage in getattr(encoder.timm_model, "feature_info", None) or []}
        patch = (
            getattr(getattr(encoder.timm_model, "patch_embed", None), "patch_size", None) if len(strides) < 2 else None
        )
    else:
        patch = None if hasattr(encoder.config, "depths") else getattr(encoder.config, "patch_size", None)
    patch = patch[0] if isinstance(patch, list | tuple) else patch
    return patch if isinstance(patch, int) else None
