"""How a batch is divided into micro-batches and processes, and whether each has enough images for the method."""

import contextlib
import math
from collections.abc import Iterator

from ..errors import RecipeError
from ..methods.base import Method
from ..methods.contract.calling import fewest_images_of
from ..recipe import Recipe


def local_batch(recipe: Recipe, processes: int) -> int:
    """Samples of one micro-batch of one process.

    Raises:
        RecipeError: The global batch cannot be shared out equally.
    """
    batch, parts = recipe.train.batch_size, processes * recipe.train.accumulation
    if batch % parts:
        raise RecipeError(
            f"train.batch_size is {batch}, the samples of one step over all processes, and cannot be shared out equally over "
            f"{processes} processes with train.accumulation {recipe.train.accumulation}: use {max(batch // parts, 1) * parts}"
        )
    return batch // parts


def check_fewest_images(recipe: Recipe, method_class: type[Method], processes: int) -> None:
    """Refuses micro-batches too small for what the method declares in ``min_images`` and ``min_images_normalized``.

    The loss sees the micro-batch of all processes; batch normalization in the heads too, unless each process has statistics of
    its own. Pieces of ``train.grad_cache`` may be of one image: the loss and the heads see their whole batch.

    Raises:
        RecipeError: They are too small.
    """
    settings = recipe.train
    compared, normalized = fewest_images_of(method_class, recipe.method.options)
    shared = processes if settings.sync_batchnorm else 1  # processes that have their batch statistics in common
    fewest = max(math.ceil(compared / processes), math.ceil(normalized / shared))  # of one process
    own = local_batch(recipe, processes)
    if own >= fewest:
        return
    parts = [f"train.batch_size {settings.batch_size}"]
    advice = [f"use train.batch_size={fewest * processes * settings.accumulation} or more"]
    if settings.accumulation > 1:
        parts.append(f"{settings.accumulation} micro-batches (train.accumulation)")
        advice.append("a lower train.accumulation")
    least, found = max(compared, normalized), own * processes
    if processes > shared:
        parts.append(f"{processes} processes with batch statistics of their own (train.sync_batchnorm: false)")
        advice.append("train.sync_batchnorm=true")
        least, found = fewest, own
    raise RecipeError(
        f"method '{recipe.method.name}' cannot learn from fewer than {least} images at a time, and {' over '.join(parts)} gives "
        f"it {found}: {', or '.join(advice)}"
    )


@contextlib.contextmanager
def too_few_to_normalize() -> Iterator[None]:
    """Explains torch's refusal to normalize a batch of one value, which depends on encoder, image size and views.

    Raises:
        RecipeError: Batch normalization met a single value per channel.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise RecipeError(
            "batch normalization has met one value per channel, of which there is nothing to normalize: put more images in a "
            "micro-batch of a process (a higher train.batch_size, a lower train.accumulation, fewer method.batch_norm_groups), "
            f"use larger views, or an encoder without batch normalization ({error})"
        ) from error
