"""The rows that `hfcontrast evaluate` uses, and the evaluators that fit the model and the data."""

import contextlib
import logging
from dataclasses import replace
from typing import Any

from ..console import warn_once
from ..data.sources import Rows, available_splits, load_rows
from ..data.sources.source import split_names
from ..errors import DataError, HFContrastError
from ..evaluation.held_out import HeldOut, check_same_classes, held_out_rows, hold_out_a_fifth, labeled_as
from ..evaluation.protocol import CAPTIONS, CLASS_NAMES, LABELS, TEXT_TOWER, TRAIN, Evaluator
from ..evaluation.rows import Described, EvaluationRows, further_columns, require
from ..evaluation.zero_shot import require_text_tower
from .arguments import DataSource
from .models import OpenedModel
from .tasks import Chosen

logger = logging.getLogger(__name__)

HINTS = {LABELS: "--label-column", CAPTIONS: "--caption-column", TRAIN: "--train-split", CLASS_NAMES: "--classes"}


def choose_rows(
    data: DataSource, tasks: Chosen, split: str | None, train_split: str, asked: bool
) -> tuple[HeldOut, bool]:
    """The rows that are evaluated on, and whether there are train rows for them.

    Args:
        data: The data.
        tasks: The tasks that are asked for, or may be.
        split: The split that is asked for.
        train_split: The split of the train rows.
        asked: Whether the tasks must be possible.

    Raises:
        DataError: They cannot be opened; or captions are asked for, and there is no column of them.
    """
    needs = frozenset().union(*(evaluator.needs_with(own) for evaluator, own in tasks.values()))
    captioned: Any = (CAPTIONS in needs) if asked else "auto"
    columns = further_columns(needs) if asked else ()
    there = set(split_names(train_split)) <= set(available_splits(**data.split_keywords()))

    def train() -> Rows | None:  # only to find test rows that it can classify; errors are reported where it is needed
        with contextlib.suppress(DataError):
            if there and split is None:
                return load_rows(**data.keywords(), split=train_split, captioned=captioned, columns=columns)
        return None

    found = held_out_rows(
        data.keywords(),
        train=train,
        train_split=train_split,
        split=split,
        captioned=captioned,
        columns=columns,
        fifth=False,
    )
    return found, there or found.split is None


def with_train_rows(data: DataSource, tasks: Chosen, found: HeldOut, train_split: str) -> HeldOut:
    """The rows with those that classifiers are fitted to, where a task needs them.

    Raises:
        DataError: They are the test rows, have other classes, or are too few.
    """
    if not any(TRAIN in evaluator.needs_with(own) for evaluator, own in tasks.values()):
        return replace(found, train=None)
    if found.split is None:
        return hold_out_a_fifth(found.test, train_split)
    if found.own and found.split == train_split:
        raise DataError(
            f"split {found.split} cannot be evaluated on by classifiers that are fitted to it: choose another --split or --train-split"
        )
    train = found.train
    if train is None:
        train = load_rows(**data.keywords(), split=train_split)
    train = labeled_as(found.test, train, data.keywords(), train_split)
    classified = any({TRAIN, LABELS} <= evaluator.needs_with(own) for evaluator, own in tasks.values())
    if classified and found.test.labeled and not train.labeled:
        raise DataError(
            f"{train.description} has no labels, so {found.test.description} cannot be classified by its images: name their column in "
            "--label-column, or another --train-split"
        )
    check_same_classes(train, found.test)
    return replace(found, train=train)


def possible_tasks(opened: OpenedModel, tasks: Chosen, found: HeldOut, trainable: bool) -> Chosen:
    """The tasks that a model and data allow.

    Raises:
        HFContrastError: None.
    """
    rows = found.test
    there = {
        TRAIN: trainable,
        LABELS: rows.labeled,
        CLASS_NAMES: bool(rows.class_names),
        CAPTIONS: rows.captions is not None,
    }
    there[TEXT_TOWER] = opened.reads_texts

    def possible(evaluator: Evaluator, own: Any) -> bool:
        if evaluator.without_labels and (rows.labeled or rows.captions is not None):
            return False
        return all(there.get(need, need in rows.columns) for need in evaluator.needs_with(own))

    chosen = {name: task for name, task in tasks.items() if possible(*task)}
    compared = [name for name, (evaluator, own) in chosen.items() if TEXT_TOWER in evaluator.needs_with(own)]
    if compared and opened.text_problem:
        warn_once(logger, f"{' and '.join(compared)} left out: {opened.text_problem}")
        chosen = {name: task for name, task in chosen.items() if name not in compared}
    if not chosen:
        texts = "has a text tower" if opened.reads_texts else "has no text tower"
        raise HFContrastError(
            f"nothing can be evaluated: {opened.name} {texts}, and {rows.description} has "
            f"{'labels' if rows.labeled else 'no labels'} and {'captions' if rows.captions else 'no captions'}; --label-column and "
            "--caption-column name columns that were not found, --train-split a split for tasks that fit a classifier"
        )
    return chosen


def check_tasks(opened: OpenedModel, tasks: Chosen, found: HeldOut, asked: bool) -> None:
    """Refuses, before anything is encoded, tasks that were asked for and that the model or the data do not allow.

    Raises:
        HFContrastError: With the reason.
    """
    for name, (evaluator, own) in tasks.items() if asked else ():
        needs = evaluator.needs_with(own)
        if TEXT_TOWER in needs:
            require_text_tower(opened.model)
            if opened.text_problem:
                raise HFContrastError(f"{name}: {opened.text_problem}")
        rows = EvaluationRows(Described(found.test), tokenizer=opened)
        require([need for need in rows.lacks(needs, opened.model) if need != TRAIN], name, rows, HINTS)
