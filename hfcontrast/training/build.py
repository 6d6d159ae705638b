"""The parts of a training, built from a recipe: accelerator, method, optimizer, loader, color augmentation."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.optim import Optimizer

from ..data.augment.color import ColorAugmentation
from ..data.augment.execution import compile_loops
from ..data.captions import CaptionReader
from ..data.loader import TrainLoader
from ..data.sources import Rows, load_rows
from ..errors import CheckpointError, RecipeError
from ..methods.base import Method, Progress
from ..methods.contract.arguments import needed_columns, needs_captions, needs_labels
from ..methods.contract.declaration import check_written
from ..methods.registry import get_method
from ..progress import LongTask
from ..recipe import Recipe
from ..view import View
from .batch_size import check_fewest_images, local_batch
from .build_method import build_method, check_backbone_builds, color_statistics, known_of_data
from .channel_statistics import channel_statistics, check_colors
from .checkpoint import Checkpoints
from .data_statistics import measured_settings
from .engines import build_accelerator, check_launcher
from .frozen_encoder import FrozenEncoder
from .grad_cache import GradientCache, check_cacheable
from .kept_features import keep_features, keys_to_keep
from .length import Clock, Length, planned_length
from .output_folder import check_same_run, keep_former_size, make_output_folder, occupy
from .prepare import build_cache, prepare
from .required_rows import check_required_rows
from .same_data import begun_on, check_same_data
from .starting_point import StartingPoint
from .step import OptimizerStep
from .tokenizer import build_captions, text_facts
from .tracking import missing_packages


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
        augmentation: Turns them into normalized floats on the device.
        rows: The data set.
        views: The views in use.
        mean: Mean of each color, in [0, 1].
        std: Standard deviation of each color.
        output: The run's folder.
        checkpoints: Its checkpoints.
        length: Its optimizer steps and the course of its schedules; ``train.minutes`` decides on them before the first step.
        clock: The time that it takes.
        start: The released weights that the encoder starts from; None for random ones.
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
    augmentation: ColorAugmentation
    rows: Rows
    views: tuple[View, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output: Path
    checkpoints: Checkpoints
    length: Length
    clock: Clock
    start: StartingPoint | None
    cache: GradientCache | None
    captions: CaptionReader | None
    data: dict[str, Any]

    @property
    def weights(self) -> str | None:
        """What was loaded into the encoder, a sentence a line; None for random weights."""
        return self.start.text if self.start else None

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training, until early stopping; 0 as long as ``train.minutes`` has not decided on them."""
        return self.length.steps if self.length.stopped is None else self.length.stopped

    def progress(self, step: int) -> Progress:
        """What the method and the schedules are told of the time after some optimizer steps."""
        return self.length.progress(step, self.loader.steps_per_epoch, self.recipe.train.seed)

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
            prepare=lambda batch: self.augmentation(batch, self.accelerator.device),
            frozen=self.frozen_encoder(),
        )

    def frozen_encoder(self) -> FrozenEncoder | None:
        """What freezes the encoder in the first steps, where ``optim.freeze_encoder_steps`` asks for it."""
        steps = self.recipe.optim.freeze_encoder_steps
        return FrozenEncoder(self.method, steps, self.start.loaded if self.start else ()) if steps else None


def build_training(recipe: Recipe, check_rows: Callable[[Rows], Rows] | None = None) -> Training:
    """Builds a training; makes the output folder, but writes nothing in it yet.

    Args:
        recipe: A resolved recipe.
        check_rows: Gets the rows as soon as they are open, before anything expensive is done with them, and returns those to train on.
            A run that was begun on all of them before there was such a choice is resumed on all.

    Raises:
        RecipeError: The recipe asks for what cannot be built.
        PluginError: The method cannot be used.
        DataError: The data cannot be trained on.
        CheckpointError: The output folder holds a run of another recipe.
        OutputError: Another run is at work in the output folder.
        LauncherError: The processes were started in a way that would train something else.
    """
    check_launcher(recipe)
    clock, settings = Clock(), recipe.train
    output, accelerator, former = _entered(recipe)
    method_class = get_method(recipe.method.name)
    check_written(method_class, Method)
    check_colors(recipe, method_class)
    check_fewest_images(recipe, method_class, accelerator.num_processes)
    check_backbone_builds(recipe)
    rows = load_rows(
        **recipe.data.source(), captioned=needs_captions(method_class), tensors=needed_columns(method_class)
    )
    check_required_rows(rows, method_class, recipe.method.name)
    checkpoints = Checkpoints(output / "checkpoints", accelerator, settings.keep_checkpoints)
    if check_rows is not None and (kept := check_rows(rows)) is not rows and not begun_on(rows, checkpoints):
        rows = kept
    data = check_same_data(rows, checkpoints, labels_matter=needs_labels(method_class) or "labels" in rows.tensors)
    captions = build_captions(recipe, rows, accelerator) if rows.captions else None
    views = recipe.resolved_views(method_class)
    mean, std = channel_statistics(recipe, color_statistics(recipe), rows, views[0].size, accelerator)
    known = known_of_data(recipe, method_class, rows, mean, std)
    known |= measured_settings(recipe, method_class, rows, views[0].size, accelerator)
    with LongTask("building the method and loading its weights"):
        method, first = build_method(recipe, views, known, text_facts(captions) if captions else None)
    check_cacheable(method, settings.grad_cache, local_batch(recipe, accelerator.num_processes))
    without = keys_to_keep(recipe, method, views, rows.streaming)
    loader = build_loader(recipe, accelerator, rows, views, captions, without)
    with LongTask("moving the method to its device"):
        model, optimizer, channels_last = prepare(recipe, accelerator, method)
    if accelerator.num_processes > 1:
        # The weights are equal now; masks of dropout are to differ.
        set_seed((settings.seed + accelerator.process_index) % 2**32)
    augmentation = ColorAugmentation(views, mean, std, channels_last=channels_last)
    compile_loops(accelerator.device.type)
    cache = build_cache(recipe, accelerator, method, augmentation)
    if without:
        loader.completed = keep_features(recipe, accelerator, method, views, loader, augmentation)
    length = planned_length(recipe, former, checkpoints, loader.steps_per_epoch)
    parts = (recipe, accelerator, method, model, optimizer, loader, augmentation, rows, views, mean, std, output)
    return Training(*parts, checkpoints, length, clock, first, cache, captions, data)


def _entered(recipe: Recipe) -> tuple[Path, Accelerator, Recipe | None]:
    """The output folder, which no other run may use until the end, the accelerator, and the recipe of a run that was begun there."""
    if missing := missing_packages(recipe.track.to):
        raise RecipeError(f"track.to: {', '.join(missing)} is not installed: pip install {' '.join(missing)}")
    output = Path(recipe.train.output)
    make_output_folder(output)
    accelerator = build_accelerator(recipe)
    occupy(output, accelerator)
    if kept := keep_former_size(recipe, output):
        accelerator.print(kept)
    try:
        former = check_same_run(recipe, output)
    except CheckpointError:  # a mistyped backbone makes another recipe too, and is what the user needs to know
        check_backbone_builds(recipe)
        raise
    return output, accelerator, former


def build_loader(
    recipe: Recipe,
    accelerator: Accelerator,
    rows: Rows,
    views: tuple[View, ...],
    captions: CaptionReader | None,
    without: frozenset[str] = frozenset(),
) -> TrainLoader:
    """The loader of this process's micro-batches, without the views of some keys."""
    settings = recipe.train
    return TrainLoader(
        rows,
        views,
        batch_size=settings.batch_size,
        accumulation=settings.accumulation,
        seed=settings.seed,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
        workers=recipe.data.workers,
        cache=recipe.data.cache,
        cache_size=recipe.data.cache_size,
        max_unreadable=recipe.data.max_unreadable,
        shuffle_block=recipe.data.shuffle_block,
        epoch_rows=recipe.data.epoch_rows,
        device_type=accelerator.device.type,
        captions=captions,
        without=without,
    )
