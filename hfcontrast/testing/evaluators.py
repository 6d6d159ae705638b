"""The contract suite of evaluators, for authors of plugins.

from hfcontrast.testing import check_evaluator

def test_my_evaluator():
    check_evaluator(MyEvaluator)
"""

import copy
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from ..errors import PluginError
from ..evaluation.feature_rows import FeatureRows
from ..evaluation.features import RawPixels
from ..evaluation.protocol import LABELS, Evaluator, NothingToEvaluate, Scores
from ..evaluation.registry import check_class, check_name
from ..evaluation.rows import EvaluationRows, meant
from .color_rows import CLASSES, color_rows
from .process_group import run_together
from .violation import ContractViolation, require

MakeRows = Callable[[], tuple[PreTrainedModel, EvaluationRows]]


def check_evaluator(
    evaluator_class: type[Evaluator],
    settings: Mapping[str, Any] | None = None,
    make: MakeRows | None = None,
    processes: int = 2,
    tolerance: float = 1e-5,
) -> None:
    """Runs every contract test on an evaluator. Takes some seconds on a CPU.

    Its declaration is complete; settings survive JSON; figures are those that are declared, finite and in their range, the same every
    time and for one process as for several; evaluating changes nothing of the encoder, its modes, gradients or the global random
    state. A share that classifies frozen features is at chance where all features are equal, whatever the order of the rows.

    Args:
        evaluator_class: The evaluator.
        settings: Settings of its own, to make it quick.
        make: Makes an encoder and rows for it, the same ones every time; None: a small ViT and small images of four colors, with
            labels and class names. An evaluator that needs more (texts, masks) gets its own.
        processes: Processes that must together equal one.
        tolerance: Relative difference that rounding may cause.

    Raises:
        ContractViolation: The first violation.
    """
    try:
        what = f"the evaluator {getattr(evaluator_class, '__name__', evaluator_class)}"
        check_class(evaluator_class, what)
        check_name(evaluator_class, what)
    except PluginError as error:
        raise ContractViolation(str(error)) from error
    evaluator = evaluator_class()
    check_declaration(evaluator)
    own = check_settings(evaluator, settings or {})
    make = make or color_rows
    encoder, rows = make()
    lacking = rows.lacks(evaluator.needs_with(own), encoder)
    near = meant(lacking[0]) if lacking else ""
    own_rows = "the suite's rows" if make is color_rows else "the rows of make="
    require(not lacking, f"it needs {', '.join(lacking)}, which {own_rows} lack{near or ': give it rows by make='}")
    evaluator.check(encoder, rows, own)
    scores = check_changes_nothing(evaluator, encoder, rows, own)
    check_scores(evaluator, scores)
    again = _evaluated(evaluator, *make(), own)
    require(again == scores.figures, f"evaluated twice, it gives {scores.figures} and then {again}")
    if evaluator.of_pixels:
        check_scores(evaluator, evaluator.evaluate(cast(Any, RawPixels()), rows, own))
    if make is color_rows and evaluator.of_pixels and LABELS in evaluator.needs:
        check_chance(evaluator, own)
    if LABELS in evaluator.needs_with(own) and make is color_rows:
        check_hidden_labels(evaluator, own)
    check_processes(evaluator, own, make, processes, scores.figures, tolerance)


def check_declaration(evaluator: Evaluator) -> None:
    """There is a docstring and a Hub task, and each figure has its own key."""
    require(
        bool((type(evaluator).__doc__ or "").strip()),
        "its class has no docstring, whose first paragraph says what it measures",
    )
    keys = [evaluator.key_of(figure) for figure in evaluator.figures]
    require(len(set(keys)) == len(keys), f"two of its figures have one key: {keys}")
    for figure in evaluator.figures:
        low, high = figure.bounds
        require(low is None or high is None or low < high, f"figure {figure.name!r} is bounded by {low} and {high}")
    json.dumps([evaluator.task_type, evaluator.task_name])


def check_settings(evaluator: Evaluator, given: Mapping[str, Any]) -> Any:
    """Settings written as JSON and read back are the same; returns those that were given."""
    for values in ({}, dict(given)):
        own = evaluator.settings_class.model_validate_json(json.dumps(values))
        back = evaluator.settings_class.model_validate_json(own.model_dump_json())
        require(own == back, f"settings written as JSON and read back differ: {own} and {back}")
    for what in (evaluator.conditions(own), evaluator.reported_settings(own)):
        try:
            json.dumps(what)
        except TypeError as error:
            raise ContractViolation(f"conditions() and reported_settings() must return JSON: {error}") from error
    return own


def check_scores(evaluator: Evaluator, scores: Scores) -> None:
    """Figures are those that are declared, finite and in their range, and details are JSON."""
    require(isinstance(scores, Scores), f"evaluate() returned {type(scores).__name__}, expected Scores")
    require(
        bool(scores.figures),
        "evaluate() returned no figure; where there is nothing to evaluate, raise NothingToEvaluate",
    )
    for name, value in scores.figures.items():
        figure = evaluator.figure_of(name)
        if figure is None:
            known = ", ".join(figure.name for figure in evaluator.figures)
            raise ContractViolation(f"figure {name!r} is not declared; declared are {known}")
        require(isinstance(value, int | float), f"figure {name!r} is of type {type(value).__name__}, expected a number")
        require(math.isfinite(value), f"figure {name!r} is {value}")
        low, high = figure.bounds
        inside = (low is None or value >= low) and (high is None or value <= high)
        require(inside, f"figure {name!r} is {value}, declared between {low} and {high}")
    try:
        json.dumps(dict(scores.details))
    except TypeError as error:
        raise ContractViolation(f"details are no JSON: {error}") from error
    require(
        isinstance(evaluator.explain(evaluator.settings_class(), [*scores.figures]), str), "explain() returned no text"
    )


def check_changes_nothing(
    evaluator: Evaluator, encoder: PreTrainedModel, rows: EvaluationRows, settings: Any
) -> Scores:
    """Evaluating leaves the encoder's tensors, modes and gradients and the global random states alone; returns the scores."""
    encoder.train()
    next(encoder.children()).eval()
    before = copy.deepcopy(encoder.state_dict())
    modes = [module.training for module in encoder.modules()]
    trained = [parameter.requires_grad for parameter in encoder.parameters()]
    drawn, numpy_drawn = torch.get_rng_state(), cast(tuple, np.random.get_state())[1].copy()
    scores = evaluator.evaluate(encoder, rows, settings)
    for name, value in encoder.state_dict().items():
        require(torch.equal(value, before[name]), f"evaluating changed {name} of the encoder")
    require(
        [module.training for module in encoder.modules()] == modes,
        "evaluating changed the encoder's modes (train, eval)",
    )
    require(
        [parameter.requires_grad for parameter in encoder.parameters()] == trained,
        "evaluating changed what requires gradients",
    )
    require(
        all(parameter.grad is None for parameter in encoder.parameters()), "evaluating left gradients on the encoder"
    )
    require(
        torch.equal(torch.get_rng_state(), drawn),
        "evaluating drew from torch's global random state: use a generator of its own",
    )
    same = np.array_equal(cast(tuple, np.random.get_state())[1], numpy_drawn)
    require(same, "evaluating drew from numpy's global random state: use a generator of its own")
    return scores


def check_chance(evaluator: Evaluator, settings: Any, images: int = 400) -> None:
    """Equal features, and features of noise, classify at chance: ties are not broken by the order of the rows."""
    count = len(CLASSES)
    labels = torch.arange(images) % count
    noise = torch.Generator().manual_seed(0)
    kinds = {
        "equal features": (torch.ones(images, 8), torch.ones(images, 8)),
        "noise": (torch.randn(images, 8, generator=noise), torch.randn(images, 8, generator=noise)),
    }
    shares = [figure.name for figure in evaluator.figures if figure.kind == "share"]
    for kind, (train, test) in kinds.items():
        rows = FeatureRows((train, labels), (test, labels))
        for name, value in evaluator.evaluate(cast(Any, RawPixels()), rows, settings).figures.items():
            if name in shares:
                # Twice five standard deviations of a guess: the classifier is random too.
                limit = 1 / count + 10 * math.sqrt(1 / count * (1 - 1 / count) / images)
                require(
                    value <= limit,
                    f"figure {name!r} is {value} of {kind} in {count} classes, expected chance, {1 / count}",
                )


def check_hidden_labels(evaluator: Evaluator, settings: Any) -> None:
    """Without any label of a test image it raises NothingToEvaluate."""
    encoder, rows = color_rows(hidden=True)
    try:
        found = evaluator.evaluate(encoder, rows, settings)
    except NothingToEvaluate:
        return
    raise ContractViolation(f"without a label of any test image it gives {found.figures}, expected NothingToEvaluate")


def check_processes(
    evaluator: Evaluator,
    settings: Any,
    make: MakeRows,
    processes: int,
    alone: Mapping[str, float],
    tolerance: float = 1e-5,
) -> None:
    """Several processes, each with its share of the images, give every one of them the figures of one process."""
    results = run_together(_evaluate_a_share, (type(evaluator), settings, make), processes)
    for number, found in enumerate(results):
        require(found.keys() == alone.keys(), f"process {number} of {processes} has {[*found]}, one process {[*alone]}")
        for name, value in found.items():
            close = abs(value - alone[name]) <= tolerance * max(abs(alone[name]), 1.0)
            require(close, f"process {number} of {processes} has {name} {value}, one process {alone[name]}")


def _evaluate_a_share(
    evaluator_class: type[Evaluator], settings: Any, make: MakeRows, number: int, processes: int
) -> dict[str, float]:
    return _evaluated(evaluator_class(), *make(), settings)


def _evaluated(evaluator: Evaluator, encoder: PreTrainedModel, rows: EvaluationRows, settings: Any) -> dict[str, float]:
    return evaluator.evaluate(encoder.train(), rows, settings).figures
