"""Evaluation during a training: all evaluators of the recipe, always on the same rows."""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

import torch
from transformers import PreTrainedModel

from ..progress import LongTask
from .budget import cost_of_classifiers
from .calling import call_evaluate
from .data_sets import DataSet
from .features import RawPixels, computing_device
from .protocol import LABELS, Chance, Evaluator, NothingToEvaluate, Task
from .registry import code_of
from .rows import EvaluationRows


class OnlineEvaluation:
    """Evaluates encoders on the same rows again and again.

    Args:
        rows: The rows.
        tasks: The evaluators with their settings, by name, in the order of their figures.

    Attributes:
        conditions: What the scores depend on beside the encoder, as JSON by kinds of scores.
        limits: Train and test rows at most, where a time has limited them; a resumed run keeps them.
        numbers: The numbers behind the figures of the last evaluation of an encoder, by their keys: test images, train images ...
        chance: What these figures are by chance, by their keys, where that is known.
        data: What figures of other data sets than the test images' were measured on, by their keys.
        left_out: Evaluators that raw pixels were not evaluated by, with the seconds that it would have taken.
        answers: The class that chance always answers, by the same keys, where the classes are unequal.
    """

    def __init__(self, rows: EvaluationRows, tasks: Mapping[str, Task]):
        self.rows, self.tasks = rows, dict(tasks)
        self.conditions: dict[str, Any] = {}
        self.limits: list[int] | None = None
        self.numbers: dict[str, dict[str, Any]] = {}
        self.chance: dict[str, float] = {}
        self.answers: dict[str, str] = {}
        self.data: dict[str, DataSet] = {}
        self.left_out: dict[str, float] = {}
        self._described: dict[str, Any] = {}

    def describe(self, train: DataSet | None, settings: Mapping[str, Any]) -> None:
        """Notes what the scores are measured on, as :attr:`measured_on`.

        Args:
            train: What the train rows are; None where there are none.
            settings: Limits of the rows and how images are prepared, as JSON.
        """
        test = self.rows.data
        found = {"test": test and asdict(test), "train": train and asdict(train), **settings}
        evaluators = {
            name: {"settings": own.model_dump(mode="json", exclude_none=True), "code": code_of(evaluator)}
            for name, (evaluator, own) in self.tasks.items()
        }
        self._described = found | {"evaluators": evaluators}

    @property
    def measured_on(self) -> dict[str, Any]:
        """What the scores were measured on, as JSON; ``others`` are data sets of single figures, by their keys."""
        return self._described | {"others": {key: asdict(other) for key, other in self.data.items()}}

    @property
    def counts(self) -> dict[str, int]:
        """How many images the last evaluation had; see :mod:`.counts`."""
        return self.rows.counts

    def __call__(self, encoder: PreTrainedModel, thorough: bool = False) -> dict[str, float]:
        """The tracked figures of all tasks, by the keys that ``result.json`` and ``metrics.jsonl`` have.

        An evaluator that finds nothing to evaluate on (a test split whose labels are hidden) has none.

        Args:
            encoder: The encoder.
            thorough: Take the time for evaluators that are ``thorough`` too.
        """
        tasks = [task for task in self.tasks.values() if thorough or not task.evaluator.thorough]
        self.numbers, self.chance, self.answers, self.data = {}, {}, {}, {}
        return self._scores(encoder, tasks, self.numbers)

    def raw_pixels(self, device: torch.device, limit: float | None = None) -> dict[str, float]:
        """The figures of the pixels themselves, by the evaluators that see nothing but features; every process must call it.

        Args:
            device: Where classifiers are fitted to them.
            limit: Seconds for all of them: what takes longer is left out (see :attr:`left_out`); None takes what it takes.
        """
        tasks, pixels = [task for task in self.tasks.values() if task.evaluator.of_pixels], RawPixels(device)
        with self.rows.remembering():
            return self._measured(pixels, tasks if limit is None else self._within(pixels, tasks, limit), {})

    def _within(self, pixels: RawPixels, tasks: list[Task], limit: float) -> list[Task]:
        """Those of some tasks that raw pixels can be evaluated by in a time; the others are noted."""
        if not {"knn", "linear"} & {task.evaluator.name for task in tasks}:
            return tasks
        try:
            train, train_labels, test, _ = self.rows.labeled_features(pixels)
        except NothingToEvaluate:
            return tasks
        width, classes = train.shape[1], len(train_labels.unique())
        cost = cost_of_classifiers(computing_device(pixels), classes, width)
        seconds = {"knn": cost.knn(len(train), len(test), width), "linear": cost.probe(len(train), width)}
        kept, self.left_out = [], {}
        for task in tasks:
            own = seconds.get(task.evaluator.name, 0.0)
            if own > limit:
                self.left_out[task.evaluator.name] = own
                continue
            kept.append(task)
            limit -= own
        return kept

    def _scores(self, encoder: Any, tasks: list[Task], numbers: dict[str, Any]) -> dict[str, float]:
        with self.rows.remembering():
            return self._measured(encoder, tasks, numbers)

    def _measured(self, encoder: Any, tasks: list[Task], numbers: dict[str, Any]) -> dict[str, float]:
        scores: dict[str, float] = {}
        for evaluator, settings in tasks:
            try:
                with LongTask(f"evaluating by {evaluator.name}"):
                    found = call_evaluate(evaluator, encoder, self.rows, settings)
            except NothingToEvaluate:
                continue
            kept = tracked(evaluator, found.figures)
            scores |= kept
            numbers |= {key: found.counts_of(name) for name in found.figures if (key := evaluator.key(name)) in kept}
            self.data |= {evaluator.key(name): other for name, other in found.data.items() if other}
            self._note_chance(evaluator, found.chance, kept)
        return scores

    def _note_chance(self, evaluator: Evaluator, found: Mapping[str, Chance | None], kept: Collection[str]) -> None:
        for name, chance in found.items():
            if chance is not None and (key := evaluator.key(name)) in kept:
                self.chance[key] = chance.value
                if chance.answer is not None:
                    self.answers[key] = chance.answer

    def missing(self, scores: Mapping[str, float]) -> list[str]:
        """Keys of headline figures that a thorough evaluation gives today, and that former scores of such an evaluation lack.

        Figures that need labels are lacking only where others are there: data whose labels are hidden have none of them.
        """
        lacking: list[tuple[str, bool]] = []
        labeled = False
        for evaluator, _ in self.tasks.values():
            needs_labels = LABELS in evaluator.needs
            if any(_has(scores, evaluator.key_of(figure)) for figure in evaluator.figures if figure.tracked):
                labeled = labeled or needs_labels
            else:
                lacking.append((evaluator.key_of(evaluator.headline), needs_labels))
        return [key for key, needs_labels in lacking if labeled or not needs_labels]


def _has(scores: Mapping[str, float], key: str) -> bool:
    return key in scores or (key.endswith("*") and any(one.startswith(key[:-1]) for one in scores))


def tracked(evaluator: Evaluator, figures: Mapping[str, float]) -> dict[str, float]:
    """The figures that runs keep, by their keys; those that are no finite number are none.

    Args:
        evaluator: The evaluator that measured them.
        figures: By their names.
    """
    declared = {name: evaluator.figure_of(name) for name in figures}
    kept = [name for name, figure in declared.items() if figure is None or figure.tracked]
    return {evaluator.key(name): figures[name] for name in kept if math.isfinite(figures[name])}
