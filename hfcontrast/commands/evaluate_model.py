"""The evaluation of any model's features on any data, by the evaluators that are installed."""

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from ..console import plain_console
from ..encoders.channels import channels_of
from ..evaluation.calling import call_evaluate
from ..evaluation.counts import counted, told_labels, told_numbers, told_series
from ..evaluation.data_sets import data_set_of
from ..evaluation.held_out import HeldOut
from ..evaluation.inputs import blank_image, image_transform
from ..evaluation.protocol import LABELS, Evaluator
from ..evaluation.registry import evaluators
from ..evaluation.rows import EvaluationRows, prepared_rows, require
from ..evaluation.verdict import told_answers, told_baselines_above
from ..nn.distributed import world_size
from ..recipe.published import data_name
from ..renamed import UNTIL, OldNameWarning
from .arguments import DataSource
from .evaluated_tasks import HINTS, check_tasks, choose_rows, possible_tasks, with_train_rows
from .models import OpenedModel, open_model
from .tasks import Chosen, read_tasks
from .trained_rows import told_trained_rows

logger = logging.getLogger(__name__)


def evaluate_model(
    model: str,
    data: DataSource,
    *,
    tasks: Sequence[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    split: str | None = None,
    train_split: str = "train",
    limit: int | None = None,
    batch_size: int = 64,
    revision: str | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
    **old: Any,
) -> dict[str, Any]:
    """Evaluates a model on a data set.

    Args:
        model: A folder or a name on the Hub, of anything that ``AutoModel`` loads.
        data: Which data.
        tasks: Names of evaluators; None: all that model and data allow, but those that have to be asked for, such as
            ``finetune``, which takes minutes.
        settings: Settings of evaluators, by their names.
        split: The rows that are evaluated on; None: ``test``, else ``validation``, else a folder of such a name beside one called
            ``train``; else a fifth of the train rows, which are then not trained on, or all of them where none are needed.
        train_split: The rows that classifiers are fitted to.
        limit: Rows of each of the two at most, drawn from all of them, of each class in proportion; the first ones of a stream of unknown
            length, or from elsewhere.
        batch_size: Images encoded at once.
        revision: Branch, tag or commit of a model on the Hub.
        device: Such as ``cuda:1``; None takes a GPU where there is one.
        trust_remote_code: Whether to run Python code that the model brings with it.
        old: ``bank_split``, ``k``, ``finetuning``, ``templates`` and ``class_names``, as they were called before.

    Returns:
        ``model``, ``revision``, ``data``; ``test`` and ``train``: what the rows are (also as ``judged`` and ``bank``, their names
        until hfcontrast 0.3); ``near_duplicates``: train images that are left out as test images have near-duplicates of theirs;
        ``evaluation``: how many images had a label and how many had none; ``scores``: for each task the figures and what they were
        found with; shares are in [0, 1]; ``counts``: for each figure of each task the numbers behind it, such as ``test_images``,
        ``of_test_images`` (from which they were taken, where that is known), ``train_images``, ``images`` and ``texts`` of a gallery, and ``k``; ``chance``:
        what a figure is by chance (``value``), and the class always answered (``answer``) where these are unequal; ``measured_on``: the test rows; ``trained_on``: whether a run was trained on them, if so.

    Raises:
        HFContrastError: A task that was asked for cannot be done with this model or data, or none can.
    """
    settings, train_split = with_old(tasks, settings or {}, train_split, old)
    known, opened = read_tasks(tasks, settings), open_model(model, revision, device, trust_remote_code)
    data = replace(data, channels=channels_of(opened.model))
    opened.image_width()  # what cannot be encoded is said before the data is read
    found, trainable = choose_rows(data, known, split, train_split, asked=tasks is not None)
    chosen = known if tasks else possible_tasks(opened, known, found, trainable)
    check_tasks(opened, chosen, found, tasks is not None)
    found = with_train_rows(data, chosen, found, train_split)
    rows = _prepared(opened, data, found, chosen, batch_size, limit)
    for name, (evaluator, own) in chosen.items():
        require(rows.lacks(evaluator.needs_with(own), opened.model), name, rows, HINTS)
        evaluator.check(opened.model, rows, own)
    figures = evaluate_tasks(opened, rows, chosen, with_features=tasks is None)
    told = {"model": model, "revision": opened.revision} | _described(model, found, rows)
    return told | dict(zip(("scores", "counts", "chance"), figures, strict=True))


def _prepared(
    opened: OpenedModel, data: DataSource, found: HeldOut, tasks: Chosen, batch_size: int, limit: int | None
) -> EvaluationRows:
    """The rows as the model's processor prepares them; pixels are kept in memory only where they are used again."""
    transform = image_transform(opened)
    trains = any(evaluator.trains for evaluator, _ in tasks.values())
    rows = prepared_rows(
        found.train,
        found.test,
        opened,
        size=transform([blank_image(channels_of(opened.model))]).shape[-1],
        batch_size=batch_size,
        max_train=limit,
        max_test=limit,
        keep=trains,
        source=data.keywords(),
        split=found.split if found.own else None,
        tokenizer=opened if opened.reads_texts else None,
    )
    rows.call(data_set_of(found.test, data.keywords(), found.where, data_name), data_name)
    if trains:
        rows.tuned = opened.tuned
        if world_size() > 1:
            logger.warning(
                "%d processes fine-tune together: each normalizes by the statistics of its own images, and draws its own dropout, so the "
                "figure is that of one process only up to that",
                world_size(),
            )
    return rows


def _described(model: str, found: HeldOut, rows: EvaluationRows) -> dict[str, Any]:
    """What a report says of the rows, after the evaluation."""
    told: dict[str, Any] = {"test": found.test.description, "judged": found.test.description}
    if rows.train is not None:
        told |= {"train": found.train.description, "bank": found.train.description}
        told["near_duplicates"] = rows.counts.get("near_duplicates", rows.train.left_out)
    told["measured_on"] = {"test": asdict(rows.data)} if rows.data else {}
    if {"train_images", "unknown_classes", "nonfinite_test_images"} & rows.counts.keys():
        told["evaluation"] = rows.counts
    if rows.data and (trained := told_trained_rows(model, found.test, rows.data)):
        told["trained_on"] = trained
    return told


def evaluate_tasks(
    opened: OpenedModel, rows: EvaluationRows, tasks: Chosen, with_features: bool = False
) -> tuple[dict[str, dict[str, Any]], ...]:
    """The figures of all tasks, and what is measured beside them of features; the numbers behind them; chance.

    Args:
        opened: The model.
        rows: The rows.
        tasks: The tasks.
        with_features: Whether features that no task needs are computed for it, where they are not there anyway.
    """
    scores: dict[str, dict[str, Any]] = {}
    counts: dict[str, dict[str, Any]] = {}
    chance: dict[str, dict[str, Any]] = {}

    def evaluate(name: str, evaluator: Evaluator, own: Any) -> None:
        found = call_evaluate(evaluator, opened.model, rows, own)
        settings = evaluator.reported_settings(own)
        used = {key: found.counts[key] for key in settings if key in found.counts}  # such as k of fewer train images
        scores[name] = {**found.figures, **found.details, **settings, **used}
        counts[name] = {figure: numbers for figure in found.figures if (numbers := found.counts_of(figure))}
        if known := {figure: asdict(one) for figure in found.figures if (one := found.chance.get(figure))}:
            chance[name] = known

    with rows.remembering():
        for name, (evaluator, own) in tasks.items():
            evaluate(name, evaluator, own)
        labeled = any(LABELS in evaluator.needs_with(own) for evaluator, own in tasks.values())
        for name, evaluator in evaluators().items():
            if evaluator.beside and name not in tasks and (with_features or rows.remembered or labeled):
                evaluate(name, evaluator, evaluator.settings_class())
                scores = {name: scores.pop(name)} | scores
    return scores, counts, chance


_OLD = {"k": ("knn", "k"), "templates": ("zero-shot", "templates"), "class_names": ("zero-shot", "classes")}


def with_old(
    tasks: Sequence[str] | None,
    settings: Mapping[str, Mapping[str, Any]],
    train_split: str,
    old: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Any]], str]:
    """The settings and the train split, with what was given under the names of before."""
    merged = {name: dict(own) for name, own in settings.items()}
    if unknown := sorted(old.keys() - _OLD.keys() - {"bank_split", "finetuning"}):
        raise TypeError(f"evaluate_model() got an unexpected keyword argument {unknown[0]!r}")
    for name, value in old.items():
        task, key = _OLD.get(name, ("finetune", None))
        new = "train_split" if name == "bank_split" else f"settings[{task!r}]"
        text = f"{name} is {new} now; the old name works until hfcontrast {UNTIL}"
        warnings.warn(text, OldNameWarning, stacklevel=3)
        if name == "bank_split":
            train_split = value
        elif value is not None and task in (tasks or ("knn", "zero-shot")):  # else it had no effect
            own = {key: list(value) if name != "k" else value} if key else value.model_dump()
            merged[task] = merged.get(task, {}) | own
    return merged, train_split


def table_rows(scores: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """The figures as they are printed: task, what, value."""
    known, found = evaluators(), []
    for task, values in scores.items():
        for name, value in values.items():
            figure = known[task].figure_of(name) if task in known else None
            text = figure.text(value) if figure and figure.kind == "share" else _text(value)
            found.append((task, name.replace("_", " "), text))
    return found


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_report(report: Mapping[str, Any]) -> None:
    """Prints the table."""
    console = plain_console(soft_wrap=True)
    against = f", with train images of {report['train']}" if "train" in report else ""
    if count := report.get("near_duplicates"):
        against += (
            f", of which {counted(count, 'near-duplicates')} of test images {'is' if count == 1 else 'are'} left out"
        )
    against += told_labels(report.get("evaluation", {}))
    console.print(f"{report['model']}, evaluated on {report['test']}{against}")
    if told := report.get("trained_on"):
        console.print(told)
    if told := told_series(report.get("evaluation", {})):
        console.print(told)
    counts = report.get("counts", {})
    numbers = [counts.get(task, {}).get(name, {}) for task, values in report["scores"].items() for name in values]
    chance = {
        task: {name: one["value"] for name, one in known.items()} for task, known in report.get("chance", {}).items()
    }
    by_chance = {row[:2]: row[2] for row in table_rows(chance)}
    table = Table("task", "figure", "value", "chance", "of", box=SIMPLE_HEAD)
    for row, behind in zip(table_rows(report["scores"]), numbers, strict=True):
        table.add_row(*row, by_chance.get(row[:2], ""), told_numbers(behind))
    console.print(table)
    for sentence in chance_remarks(report):
        console.print(sentence)


def chance_remarks(report: Mapping[str, Any]) -> list[str]:
    """Sentences below the table: which class chance answers, and the figures by which chance is better than the model."""
    known = evaluators()
    keys = {
        (task, name): known[task].key(name)
        for task, found in report.get("chance", {}).items()
        for name in found
        if task in known
    }
    scores: dict[str, dict[str, float]] = {"chance": {}, "trained": {}}
    answers = {}
    for (task, name), key in keys.items():
        one = report["chance"][task][name]
        scores["chance"][key], scores["trained"][key] = one["value"], report["scores"][task][name]
        if one["answer"] is not None:
            answers[key] = one["answer"]
    titles = {key: f"{task} {name.replace('_', ' ')}" for (task, name), key in keys.items()}  # as the table has them
    told = told_answers(answers, titles)
    return [*([told] if told else []), *told_baselines_above(scores, "the model", titles=titles)]
