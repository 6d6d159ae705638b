"""Everything that a training consists of, built from a recipe: accelerator, method, optimizer, loader, photometry."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from ..atomic import remove_unfinished
from ..data.augment.color import ColorAugmentation
from ..data.captions import CaptionReader
from ..data.loader import TrainLoader
from ..data.sources import Rows, load_rows
from ..encoders.families import family_of
from ..errors import CheckpointError, OutputError, RecipeError
from ..lock import hold
from ..methods.base import Method
from ..methods.declaration import check_written
from ..methods.registry import get_method
from ..nn.batch_norm import synchronize_batch_norm
from ..nn.distributed import world_size
from ..nn.running_statistics import hold_when_recomputed
from ..recipe import Recipe, load_recipe
from ..view import View
from .batch_size import check_fewest_images, local_batch
from .build_method import build_method, color_statistics, known_of_data
from .checkpoint import Checkpoints
from .data_statistics import measured_settings
from .engines import SHARDED, build_accelerator, check_launcher
from .grad_cache import GradientCache, check_cacheable
from .optim import build_optimizer
from .output_folder import make_output_folder
from .same_data import check_same_data
from .step import OptimizerStep
from .tokenizer import build_captions, text_facts
from .tracking import missing_packages

# What says that an encoder has been published in a folder, or was about to be.
RESULTS = ("result.json", "model.safetensors")


@dataclass
class Training:
    """The parts of a run, ready to go.

    Attributes:
        recipe: The resolved recipe.
        accelerator: Devices, precision and processes.
        method: The method itself.
        model: The method as the accelerator has prepared it; what is called in a step.
        optimizer: Prepared.
        loader: Yields micro-batches of crops as bytes.
        photometry: Turns them into normalized floats on the device.
        rows: The data set.
        views: The views in use.
        mean: Mean of each color, in [0, 1].
        std: Standard deviation of each color.
        output: The run's folder.
        checkpoints: Its checkpoints.
        total_steps: Optimizer steps of the whole training.
        weights: What was loaded into the encoder; None for random weights.
        cache: Computes a step's gradients piece by piece, where ``train.grad_cache`` asks for it.
        captions: Reads the captions, for a method that learns from texts.
        data: Number and fingerprint of the rows, which checkpoints keep.
    """

    recipe: Recipe
    accelerator: Accelerator
    method: Method
    model: nn.Module
    optimizer: Optimizer
    loader: TrainLoader
    photometry: ColorAugmentation
    rows: Rows
    views: tuple[View, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output: Path
    checkpoints: Checkpoints
    total_steps: int
    weights: str | None
    cache: GradientCache | None
    captions: CaptionReader | None
    data: dict[str, Any]

    def optimizer_step(self) -> OptimizerStep:
        """The step of this training; it takes micro-batches as the loader yields them."""
        return OptimizerStep(
            self.method,
            self.optimizer,
            self.accelerator,
            self.model,
            self.recipe.optim,
            self.recipe.train.batch_size,
            self.cache,
            prepare=lambda batch: self.photometry(batch, self.accelerator.device),
        )


def build_training(recipe: Recipe) -> Training:
    """Builds a training; makes the output folder, but writes nothing in it yet.

    Args:
        recipe: A resolved recipe.

    Raises:
        RecipeError: The recipe asks for what cannot be built.
        PluginError: The method cannot be used.
        DataError: The data cannot be trained on.
        CheckpointError: The output folder holds a run of another recipe.
        OutputError: Another run is at work in the output folder.
        LauncherError: The processes were started in a way that would train something else.
    """
    check_launcher(recipe)
    settings = recipe.train
    if missing := missing_packages(recipe.track.to):
        raise RecipeError(f"track.to: {', '.join(missing)} is not installed: pip install {' '.join(missing)}")
    output = Path(settings.output)
    make_output_folder(output)
    accelerator = build_accelerator(recipe)
    occupy(output, accelerator)
    check_same_run(recipe, output)
    method_class = get_method(recipe.method.name)
    check_written(method_class, Method)
    check_fewest_images(recipe, method_class, accelerator.num_processes)
    views = recipe.resolved_views(method_class)
    rows = load_rows(
        **recipe.data.source(), captioned=method_class.needs_captions(), tensors=method_class.needed_columns()
    )
    checkpoints = Checkpoints(output / "checkpoints", accelerator, settings.keep_checkpoints)
    data = check_same_data(rows, checkpoints)
    captions = build_captions(recipe, rows, accelerator) if rows.captions else None
    mean, std = color_statistics(recipe)
    known = known_of_data(recipe, method_class, rows, mean, std)
    known |= measured_settings(recipe, method_class, rows, views[0].size, accelerator)
    method, weights = build_method(recipe, views, known, text_facts(captions) if captions else None)
    check_cacheable(method, settings.grad_cache, local_batch(recipe, accelerator.num_processes))
    loader = TrainLoader(
        rows,
        views,
        batch_size=settings.batch_size,
        accumulation=settings.accumulation,
        seed=settings.seed,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
        workers=recipe.data.workers,
        cache=recipe.data.cache,
        max_unreadable=recipe.data.max_unreadable,
        shuffle_block=recipe.data.shuffle_block,
        epoch_rows=recipe.data.epoch_rows,
        device_type=accelerator.device.type,
        captions=captions,
    )
    model, optimizer, channels_last = prepare(recipe, accelerator, method)
    if accelerator.num_processes > 1:
        # The weights are equal now; masks of dropout are to differ.
        set_seed((settings.seed + accelerator.process_index) % 2**32)
    photometry = ColorAugmentation(views, mean, std, channels_last=channels_last)
    total_steps = settings.steps or max(round(settings.epochs * loader.steps_per_epoch), 1)
    return Training(
        recipe=recipe,
        accelerator=accelerator,
        method=method,
        model=model,
        optimizer=optimizer,
        loader=loader,
        photometry=photometry,
        rows=rows,
        views=views,
        mean=mean,
        std=std,
        output=output,
        checkpoints=checkpoints,
        total_steps=total_steps,
        weights=weights,
        cache=build_cache(recipe, accelerator, method, photometry),
        captions=captions,
        data=data,
    )


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
        method.to(memory_format=torch.channels_last)
    if settings.sync_batchnorm and world_size() > 1:
        synchronize_batch_norm(method)
    if settings.gradient_checkpointing:
        recompute_activations(method)
    if settings.compile:
        for part in method.compiled_parts():
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
    return model, optimizer, channels_last


def faster_channels_last(encoder: PreTrainedModel, device: torch.device) -> bool:
    """Whether images and convolutions are to be channels-last where nobody says: for convolutional encoders.

    On a CPU not for those with fewer than 16 channels: there oneDNN's backward pass can end in a segmentation fault (torch 2.14,
    8 channels, images of 224 px).
    """
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    narrow = any(layer.groups == 1 and layer.out_channels < 16 for layer in convolutions)
    return len(convolutions) > 2 and not (narrow and device.type == "cpu")


def build_cache(
    recipe: Recipe, accelerator: Accelerator, method: Method, photometry: ColorAugmentation
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
    return GradientCache(method, accelerator, photometry, rows)


def recompute_activations(method: Method) -> None:
    """Lets the encoder compute its activations again in the backward pass.

    Raises:
        RecipeError: Its architecture cannot.
    """
    encoder = method.encoder
    newest = "activation_checkpointing_enable"  # the name in newer transformers
    parts = family_of(encoder).recomputed(encoder)
    try:
        for part in parts:
            getattr(part, newest if hasattr(part, newest) else "gradient_checkpointing_enable")()
        hold_when_recomputed(method)
    except (ValueError, NotImplementedError) as error:
        raise RecipeError(
            f"train.gradient_checkpointing: encoder '{encoder.config.model_type}' cannot do it; use a smaller "
            f"train.batch_size, train.accumulation or train.precision=bf16 to save memory ({error})"
        ) from error


def occupy(output: Path, accelerator: Accelerator) -> None:
    """Keeps other runs out of the output folder, and removes what a killed one was just writing there.

    The first process does it for all of the run; ``hfcontrast.lock.release``, or the end of the process, undoes it.

    Raises:
        OutputError: Another run is at work there; on all processes.
    """
    problem = None
    if accelerator.is_main_process:
        try:
            hold(output, "train.output")
            remove_unfinished(output)
        except OutputError as error:
            problem = str(error)
    if first := next((text for text in gather_object([problem]) if text), None):
        raise OutputError(first)


def check_same_run(recipe: Recipe, output: Path) -> None:
    """Refuses to continue, or to write over, a run of another recipe.

    Raises:
        CheckpointError: The folder holds one.
    """
    former = output / "recipe.yaml"
    checkpoints = any((output / "checkpoints").glob("step_*"))
    result = next(
        (name for name in RESULTS if (output / name).exists()), None
    )  # outlives checkpoints that were removed
    if not former.exists() and result and not checkpoints:
        raise CheckpointError(
            f"{output} holds a {result} and no recipe.yaml, so it is no run's folder and would be written over: choose another "
            "train.output"
        )
    if not former.exists() or not (checkpoints or result):
        return
    if recipe.train.resume == "never":
        raise CheckpointError(
            f"{output} holds a run already and train.resume is never: choose another train.output, or remove the folder"
        )
    old = load_recipe(former)
    if old.fingerprint().hash == recipe.fingerprint().hash:
        return
    changes = old.difference(recipe)
    raise CheckpointError(
        f"{output} holds a run of another recipe ({'; '.join(changes[:5])}): choose another train.output, or remove the folder"
    )
