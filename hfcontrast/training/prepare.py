"""Preparing a method for training: memory format, compilation, recomputed activations, optimizer, and what the accelerator wraps."""

import warnings

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from ..data.augment.color import ColorAugmentation
from ..errors import ArgumentError, RecipeError
from ..methods.base import Method
from ..methods.contract.checkpointing import ENABLE
from ..methods.contract.modules import compiled_modules
from ..nn.batch_norm import synchronize_batch_norm
from ..nn.distributed import world_size
from ..recipe import Recipe
from .batch_size import local_batch
from .engines import SHARDED
from .grad_cache import GradientCache
from .optim import build_optimizer


def prepare(recipe: Recipe, accelerator: Accelerator, method: Method) -> tuple[nn.Module, Optimizer, bool]:
    """Applies the recipe's choices to the method and hands it to the accelerator.

    Returns:
        The prepared model, the prepared optimizer, and whether images come channels-last.
    """
    settings = recipe.train
    automatic = settings.channels_last == "auto"
    channels_last = faster_channels_last(method.encoder, accelerator.device) if automatic else settings.channels_last
    method.to(accelerator.device)
    if channels_last:
        to_channels_last(method)
    if settings.sync_batchnorm and world_size() > 1:
        synchronize_batch_norm(method)
    if settings.gradient_checkpointing:
        recompute_activations(method)
    if settings.compile:
        for part in compiled_modules(method):
            # An encoder sees a few sizes of views; layers that a method runs by itself may see any number of tokens.
            part.compile(dynamic=False if isinstance(part, PreTrainedModel) else None)
    peak_lr = recipe.optim.peak_lr(settings.batch_size)
    optimizer = build_optimizer(method, recipe.optim, method.constant_lr, peak_lr)
    if (plugin := accelerator.state.deepspeed_plugin) is not None:
        # DeepSpeed takes this from a prepared loader; ours is not prepared, it shares out the batches itself.
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = local_batch(recipe, accelerator.num_processes)
    with warnings.catch_warnings():  # of torch, about the name of an option that accelerate passes on
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        model, optimizer = accelerator.prepare(method, optimizer)
    return model, optimizer, bool(channels_last)


def to_channels_last(module: nn.Module) -> None:
    """Lays out the weights of two-dimensional convolutions channels-last; ``Module.to`` fails over those of three dimensions."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)


def faster_channels_last(encoder: PreTrainedModel, device: torch.device) -> bool:
    """The default of ``train.channels_last``: true for convolutional encoders.

    On a CPU not for those with fewer than 16 channels: there oneDNN's backward pass can end in a segmentation fault (torch 2.14,
    8 channels, images of 224 px).
    """
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    narrow = any(layer.groups == 1 and layer.out_channels < 16 for layer in convolutions)
    return len(convolutions) > 2 and not (narrow and device.type == "cpu")


def build_cache(
    recipe: Recipe, accelerator: Accelerator, method: Method, augmentation: ColorAugmentation
) -> GradientCache | None:
    """The gradient cache, where the recipe wants one.

    Raises:
        RecipeError: What prepares the model keeps the gradients to itself.
    """
    rows = recipe.train.grad_cache
    if rows is None:
        return None
    if accelerator.distributed_type in SHARDED:
        raise RecipeError(
            f"train.grad_cache works on one process or with plain data parallelism, not with {accelerator.distributed_type.value}: "
            "take train.gradient_checkpointing there"
        )
    return GradientCache(method, accelerator, augmentation, rows)


def recompute_activations(method: Method) -> None:
    """Lets the encoder compute its activations again in the backward pass.

    Raises:
        RecipeError: Its architecture cannot.
    """
    try:
        getattr(method, ENABLE)()
    except (ArgumentError, ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"train.gradient_checkpointing: encoder '{method.encoder.config.model_type}' cannot do it; use a smaller "
            f"train.batch_size, train.accumulation or train.precision=bf16 to save memory ({error})"
        ) from error
