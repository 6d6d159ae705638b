"""What a run is evaluated on: its rows, the processor that it publishes, and its evaluators."""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from transformers import PreTrainedModel

from .data.sources import Rows, load_rows
from .encoders.new_adapters import adapter_settings
from .encoders.two_towers import is_two_towers
from .errors import RecipeError, under
from .evaluation.data_sets import data_set_of
from .evaluation.feature_statistics import ROWS
from .evaluation.held_out import HeldOut, held_out_rows
from .evaluation.online import OnlineEvaluation, Task
from .evaluation.protocol import CAPTIONS, CLASS_NAMES, LABELS, TEXT_TOWER, TRAIN, NothingToEvaluate
from .evaluation.registry import code_of
from .evaluation.rows import Described, EvaluationRows, further_columns, prepared_rows, require
from .evaluation.tuned import Tuned
from .publishing.processor import build_processor, published_ratio, with_tokenizer
from .recipe import Recipe
from .recipe.published import data_name
from .recipe.tasks import evaluation_tasks, named_refusal
from .run_budget import within_time
from .run_overlap import without_labeled_fifth
from .training.baseline import CODE
from .training.build import Training
from .training.build_method import published_size
from .training.engines import SHARDED

_HINTS = {
    CLASS_NAMES: "name them in eval.tasks.zero-shot.classes",
    LABELS: "name their column in data.label_column",
    CAPTIONS: "name their column in data.caption_column",
    TEXT_TOWER: "leave it out, or train a method of images and texts such as clip",
}


class OpenedRows:
    """The rows of a run's evaluation, opened and checked as soon as its training rows are.

    Args:
        recipe: The recipe.
    """

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.tasks = {name: Task(*task) for name, task in evaluation_tasks(recipe.eval).items()}
        self.rows: Rows | None = None
        self.found: HeldOut | None = None

    def __call__(self, rows: Rows) -> Rows:
        """Opens the rows that are held out of others, and refuses those that lack what a task of `eval.tasks` needs.

        Args:
            rows: The rows of the training split.

        Returns:
            Those to train on: without the fifth that is held out, where the method reads labels.

        Raises:
            DataError: They cannot be opened, or lack something.
        """
        needs = frozenset().union(*(task.evaluator.needs_with(task.settings) for task in self.tasks.values()))
        captioned = rows.captions is not None and CAPTIONS in needs
        self.rows = rows
        self.found = held_out(self.recipe, rows, captioned, further_columns(needs))
        for name, (evaluator, settings) in self.tasks.items():
            if name in self.recipe.eval.tasks:
                own = evaluator.needs_with(settings)
                checks = [(self.found.test, own - {TEXT_TOWER, TRAIN}), (self.found.train, own & {LABELS})]
                for described, needed in checks if TRAIN in own else checks[:1]:
                    one = EvaluationRows(Described(described))
                    none = LABELS in needed and not described.has_labels()
                    require(one.lacks(needed, None) or [LABELS] * none, f"eval.tasks.{name}", one, _HINTS)
        return without_labeled_fifth(self.recipe, rows, self.found)


def build_evaluation(training: Training, opened: OpenedRows) -> tuple[OnlineEvaluation, str, Any, float]:
    """The evaluation of a run, what its data are called, the processor that is published, and its resize ratio.

    Args:
        training: The run.
        opened: Its rows, opened.
    """
    recipe, opened.rows = training.recipe, training.rows
    size = published_size(recipe, training.views)
    ratio = published_ratio(recipe.publish, size)
    encoder = training.method.export_encoder()
    processor = build_processor(encoder, size, ratio, training.mean, training.std)
    with_texts = training.captions is not None and is_two_towers(encoder)
    found = opened.found
    limited = within_time(training, found, opened.tasks, processor)
    settings = limited.eval
    prepare = partial(
        prepared_rows,
        test=found.test,
        processor=processor,
        size=size,
        batch_size=settings.batch_size,
        max_train=settings.max_train,
        max_test=settings.max_test,
        source=recipe.evaluation_source(),
        split=recipe.eval.split,
        tokenizer=training.captions.tokenizer if with_texts else None,
    )
    try:
        rows = prepare(found.train if found.train.labeled and found.test.labeled else None)
    except NothingToEvaluate as error:
        rows = without_train_rows(training, error, prepare, opened.tasks)
    rows.test.check()
    rows.tuned = Tuned(adapter_settings(encoder), "vision" in (recipe.backbone.locked or ()))
    evaluation = OnlineEvaluation(rows, possible_tasks(training, encoder, rows, opened.tasks))
    processing = [size, ratio, training.mean, training.std]
    used = found.train if rows.train is None else rows.train.all_rows
    counts = [used.num_rows, found.test.num_rows]
    noted = f"{recipe.evaluation_source()['path']} ({found.where})"
    evaluation.limits = None if limited is recipe else [settings.max_train, settings.max_test]
    drawn = draws_rows(found, settings)
    evaluation.conditions = conditions(limited, noted, counts, processing, evaluation.tasks, drawn)
    note_data(recipe, found, evaluation, processing)
    if with_texts:
        processor = with_tokenizer(encoder, processor, training.captions.tokenizer)
    return evaluation, rows.data.title, processor, ratio


def without_train_rows(
    training: Training,
    error: NothingToEvaluate,
    prepare: Callable[[None], EvaluationRows],
    tasks: dict[str, Task],
) -> EvaluationRows:
    """The rows of a run whose train rows are all test rows: nothing is classified by them, which is said.

    Raises:
        NothingToEvaluate: `eval.tasks` names an evaluator that needs train rows.
    """
    for name, (evaluator, settings) in tasks.items():
        if name in training.recipe.eval.tasks and TRAIN in evaluator.needs_with(settings):
            raise NothingToEvaluate(f"eval.tasks.{name}: {error}") from error
    training.accelerator.print(f"warning: {error}; the run goes on without such scores", file=sys.stderr)
    rows = prepare(None)
    rows.counts["not_classified"] = str(error)
    return rows


def possible_tasks(
    training: Training, encoder: PreTrainedModel, rows: EvaluationRows, tasks: dict[str, Task]
) -> dict[str, Task]:
    """The tasks that rows and encoder allow; those that `eval.tasks` names must be possible.

    Raises:
        DataError: Rows or encoder lack what a task needs.
        RecipeError: A task trains a copy of the encoder, whose weights are not whole on every process.
        HFContrastError: What a task refuses by itself.
    """
    found = {}
    for name, task in tasks.items():
        evaluator, settings = task
        lacking = rows.lacks(evaluator.needs_with(settings), encoder)
        named = name in training.recipe.eval.tasks
        if not named and (lacking or (evaluator.without_labels and not without_labels(rows.test_rows))):
            continue
        require(lacking, f"eval.tasks.{name}", rows, _HINTS)
        if evaluator.trains:
            check_whole_weights(training, name)
        with under(f"eval.tasks.{name}"), named_refusal(name, named):
            evaluator.check(encoder, rows, settings)
        found[name] = task
    return found


def without_labels(rows: Rows) -> bool:
    """Whether rows have neither labels nor captions, by which features could be evaluated."""
    return not rows.has_labels() and rows.captions is None


def draws_rows(found: HeldOut, settings: Any) -> bool:
    """Whether not all rows are used, so that they are drawn (see ``hfcontrast.data.subsets``)."""
    fifth = found.split is None and found.own and found.test.class_numbers() is not None
    limits = [(found.train, settings.max_train), (found.test, settings.max_test), (found.test, ROWS)]
    return fifth or any(rows and limit and (rows.num_rows or 0) > limit for rows, limit in limits)


def conditions(
    recipe: Recipe,
    name: str,
    rows: list[int | None],
    processing: list[Any],
    tasks: dict[str, Task],
    drawn: bool = False,
) -> dict[str, Any]:
    """What the scores of a run depend on beside its encoder, by kinds of scores, as JSON.

    Args:
        recipe: The recipe.
        name: What the data is called.
        rows: How many rows it has: train rows and test rows.
        processing: How images are prepared.
        tasks: The evaluators.
        drawn: Whether the rows that are used are drawn, as earlier versions drew others.
    """
    settings = recipe.eval
    source = [
        name,
        recipe.evaluation_source(),
        rows,
        settings.max_train,
        settings.max_test,
        *["drawn by class"] * drawn,
    ]
    found = {"images": [source, processing]}
    for task, (evaluator, chosen) in tasks.items():
        found[task.replace("-", "_")] = evaluator.conditions(chosen)
    return json.loads(json.dumps(found, default=str))


def note_data(recipe: Recipe, found: HeldOut, evaluation: OnlineEvaluation, processing: list[Any]) -> None:
    """Notes what the scores are measured on: the rows themselves and the code of each evaluator, among the conditions too.

    Args:
        recipe: The recipe.
        found: The rows.
        evaluation: The evaluation; its conditions get what they depend on beside settings.
        processing: How images are prepared.
    """
    rows, source = evaluation.rows, recipe.evaluation_source()
    rows.call(test := data_set_of(found.test, source, found.where, data_name), data_name)
    train = None
    if rows.train is not None:
        where = "train" if recipe.eval.path else recipe.data.split
        train = data_set_of(rows.train.all_rows, source, where, data_name)
    evaluation.conditions["rows"] = [test.fingerprint, test.with_captions, train and train.fingerprint]
    for name, (evaluator, _) in evaluation.tasks.items():
        evaluation.conditions[f"{CODE}{name.replace('-', '_')}"] = code_of(evaluator)
    images = dict(zip(("size", "resize_ratio", "mean", "std"), processing, strict=True))
    limits = {"max_test": recipe.eval.max_test, "max_train": recipe.eval.max_train}
    evaluation.describe(train, {**limits, "images": images})


def check_whole_weights(training: Training, name: str = "finetune") -> None:
    """Refuses an evaluator that trains a copy of the encoder where the weights are not whole on every process.

    Args:
        training: The run.
        name: The evaluator's name.

    Raises:
        RecipeError: They are not.
    """
    kind = training.accelerator.distributed_type
    if kind in SHARDED:
        raise RecipeError(
            f"eval.tasks.{name} trains a copy of the encoder, on one process or with plain data parallelism, not with {kind.value}: "
            f"set it (or eval.{name}, its short form) to false, and evaluate the published encoder with "
            f"`hfcontrast evaluate --task {name}`"
        )


def held_out(recipe: Recipe, rows: Rows, captioned: bool = False, columns: tuple[str, ...] = ()) -> HeldOut:
    """The train rows and the test rows of a run.

    Args:
        recipe: The recipe.
        rows: The rows that are trained on.
        captioned: Whether captions are wanted, where there are any.
        columns: Further columns of the test rows.

    Raises:
        DataError: They cannot be opened, have different classes, or are too few.
    """
    source = recipe.evaluation_source()
    elsewhere = recipe.eval.path is not None
    return held_out_rows(
        source,
        train=partial(load_rows, **source, split="train") if elsewhere else lambda: rows,
        train_split="train" if elsewhere else recipe.data.split,
        split=recipe.eval.split,
        captioned="auto" if captioned else False,
        columns=columns,
    )
