"""The rows that the evaluation of a run for a time has, so that it and the baselines take at most a fifth of it."""

from typing import Any

from .data.sources import Rows
from .errors import DataError
from .evaluation.batches import Batches
from .evaluation.budget import SAMPLE, affordable_rows, measured_cost, widths_of
from .evaluation.held_out import HeldOut
from .evaluation.inputs import image_transform
from .evaluation.online import OnlineEvaluation
from .evaluation.protocol import Task
from .recipe import Recipe
from .training.baseline import EVALUATION_ROWS
from .training.build import Training
from .training.build_method import published_size

SHARE = 0.2  # of ``train.minutes`` that evaluation and baselines may take
_LEAST = 60.0  # seconds that raw pixels may always take, in a run by epochs or steps
_CLASSES = 10  # where their number is not known


def within_time(training: Training, found: HeldOut, tasks: dict[str, Task], processor: Any) -> Recipe:
    """The recipe with limits on the rows of its evaluation (``eval.max_train``, ``eval.max_test``); every process must call it.

    Args:
        training: The run; of one that is not for a time, and of streams whose length is not known, the limits stay.
        found: The rows that are held out.
        tasks: The evaluators.
        processor: Prepares the images.
    """
    recipe, settings = training.recipe, training.recipe.eval
    train, test = (None if rows is None else rows.num_rows for rows in (found.train, found.test))
    if recipe.train.minutes is None or not train or not test:
        return recipe
    most = [min(count, limit or count) for count, limit in ((train, settings.max_train), (test, settings.max_test))]
    newest = training.checkpoints.newest()
    limits = training.checkpoints.notes(newest).get(EVALUATION_ROWS) if newest else None
    if limits is None:
        limits = _measured(training, found, tasks, processor, most)
    if [*limits] != most:
        training.accelerator.print(
            f"evaluation: on {limits[1]:,} of {test:,} test images, by {limits[0]:,} of {train:,} train images, so that with the baselines it "
            f"takes at most a fifth of train.minutes"
        )
    limited = settings.model_copy(update={"max_train": limits[0], "max_test": limits[1]})
    return recipe.model_copy(update={"eval": limited})


def seconds_for_pixels(training: Training) -> float | None:
    """The time that the evaluation of raw pixels may take in a run by epochs or steps; None for one for a time, whose rows are limited."""
    return None if training.recipe.train.minutes is not None else max(SHARE * training.clock.spent(), _LEAST)


def told_left_out(evaluation: OnlineEvaluation) -> list[str]:
    """A line for each evaluator that raw pixels were not evaluated by."""
    return [
        f"evaluation: {evaluation.tasks[name].evaluator.headline.title} of raw pixels is left out, as it would take about {seconds:,.0f} s, more than "
        f"a fifth of this run and {_LEAST:.0f} s; eval.max_train limits its images"
        for name, seconds in evaluation.left_out.items()
    ]


def _measured(
    training: Training, found: HeldOut, tasks: dict[str, Task], processor: Any, most: list[int]
) -> tuple[int, int]:
    recipe, encoder = training.recipe, training.method.export_encoder()
    size = published_size(recipe, training.views)
    encodings = 2 if recipe.eval.baselines else 1
    widths = widths_of(encoder, size, recipe.eval.baselines is True, encodings)
    classes = len(found.test.class_names or ()) or _CLASSES

    def batches(rows: Rows = found.test) -> Batches:
        made = Batches(rows, SAMPLE, transform=image_transform(processor), batch_size=recipe.eval.batch_size, size=size)
        made.keep = False
        return made

    try:
        cost = measured_cost(batches, encoder, classes, max(widths))
    except DataError:  # which the evaluation says
        return most[0], most[1]
    limit, probe = SHARE * 60 * recipe.train.minutes, "linear" in tasks
    return affordable_rows(cost, most[0], most[1], limit, widths, probe, encodings)
