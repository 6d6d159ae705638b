"""Which test rows of a run its encoder is trained on too, and which rows a method that reads labels is not trained on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .data.epoch_order import rows_read
from .data.sources import Rows
from .data.sources.source import split_names
from .evaluation.held_out import HeldOut
from .methods.contract.arguments import reads_labels
from .methods.registry import get_method
from .recipe import Recipe
from .training.build import Training

_PLACE = ("path", "name", "data_dir", "data_files", "revision")


def without_labeled_fifth(recipe: Recipe, rows: Rows, found: HeldOut) -> Rows:
    """The rows to train on: a method that reads labels is evaluated on the fifth that is held out without having been told its labels.

    Methods without labels are trained on all rows. So are those with labels on a stream, whose rows are read from several shards at once.

    Args:
        recipe: The recipe.
        rows: All rows of the training split.
        found: The rows of the evaluation.
    """
    fifth = found.split is None and found.own and recipe.eval.path is None
    labeled = reads_labels(get_method(recipe.method.name)) and rows.labeled
    if not fifth or not labeled or rows.streaming or found.train is None:
        return rows
    return replace(found.train, description=f"{rows.description}, without the fifth that is evaluated on")


def trained_on(training: Training, found: HeldOut, stopping: Mapping[str, Any] | None = None) -> int | str | None:
    """How many of the test rows the published encoder was trained on too, or ``all``; None where that is not known.

    Args:
        training: The run.
        found: The rows of its evaluation.
        stopping: What early stopping noted.
    """
    recipe, rows, tests = training.recipe, training.rows, found.test
    published = (stopping or {}).get("published")
    if published == "start":
        return 0
    steps = stopping["best_step"] if stopping and published == "best" else training.total_steps
    length = (steps, training.loader.steps_per_epoch)
    read = None
    if not rows.streaming:
        read = rows_read(recipe.train.seed, rows.num_rows or 0, *length, recipe.train.batch_size)
    elif rows.num_rows and steps * recipe.train.batch_size >= rows.num_rows:
        read = np.ones(rows.num_rows, dtype=bool)
    same = recipe.eval.path is None and found.own and found.split in (None, recipe.data.split)
    if same and read is not None and not tests.streaming:
        trained, asked = _places(rows), _places(tests)
    elif same:
        return "all" if read is not None else None
    else:
        trained, asked = rows.identities(), tests.identities()
        if trained is None or asked is None:
            return None if _may_share(recipe, found) else 0
    if read is None or len(read) != len(trained):
        return None if np.isin(asked, trained).any() else 0
    count = int(np.isin(asked, trained[read]).sum())
    return "all" if count == len(asked) else count


def _places(rows: Rows) -> np.ndarray:
    return np.fromiter(rows.places(), dtype=np.int64, count=rows.num_rows or 0)


def _may_share(recipe: Recipe, found: HeldOut) -> bool:
    """Whether test rows can be rows of the training, by the names of data and splits."""
    own, other = recipe.data.source(), recipe.evaluation_source()
    if not found.own or any(own.get(key) != other.get(key) for key in _PLACE):
        return False
    return bool(set(split_names(found.split or "train")) & set(split_names(recipe.data.split)))
