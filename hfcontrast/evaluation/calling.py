"""Calls of evaluators: an exception in one becomes an error that names the evaluator."""

import traceback
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..encoders.finite_weights import not_finite
from ..errors import HFContrastError, PluginError, out_of_memory
from .features import join_processes
from .protocol import LABELS, Evaluator, Scores
from .rows import EvaluationRows

# What a mistake ends in. Other exceptions (a full disk, an interruption, errors that are sentences already) pass.
_MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


def call_evaluate(evaluator: Evaluator, encoder: Any, rows: EvaluationRows, settings: Any) -> Scores:
    """Calls ``evaluate`` and returns what it returns, with the numbers behind it.

    Test images whose features are not finite, and which were therefore left out of :meth:`.rows.EvaluationRows.test_features`, count
    as wrong where the evaluator needs labels: a share is one of all images with a label.

    Args:
        evaluator: The evaluator.
        encoder: What is evaluated: an encoder, or raw pixels.
        rows: The images.
        settings: An instance of the evaluator's ``settings_class``.

    Raises:
        PluginError: It raised what a mistake ends in, returned no :class:`.protocol.Scores`, or a figure that is not declared.
        NothingToEvaluate: No row can be evaluated on.
        HFContrastError: The encoder's weights are not finite.
    """
    require_finite(encoder)
    rows.begin()
    try:
        found = evaluator.evaluate(encoder, rows, settings)
    except _MISTAKES as error:
        if out_of_memory(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)[1:]
        place = f" (line {frames[0].lineno} of {frames[0].filename})" if frames else ""
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"the evaluator '{evaluator.name}': evaluate() raised {cause}{place}") from error
    if not isinstance(found, Scores):
        raise PluginError(
            f"the evaluator '{evaluator.name}': evaluate() returned {type(found).__name__}, expected Scores({{name: value}})"
        )
    if unknown := [name for name in found.figures if evaluator.figure_of(name) is None]:
        known = ", ".join(figure.name for figure in evaluator.figures)
        raise PluginError(
            f"the evaluator '{evaluator.name}': evaluate() returned the figure {unknown[0]!r}, declared are {known}"
        )
    needs_labels = LABELS in evaluator.needs_with(settings)
    if needs_labels and rows.kept < rows.labeled:
        share = rows.kept / rows.labeled
        found = replace(
            found, figures={name: _of_all(evaluator, name, value, share) for name, value in found.figures.items()}
        )
    numbers = rows.numbers | ({"test_images": rows.labeled} if needs_labels and rows.labeled else {})
    return replace(found, counts=numbers | dict(found.counts))


def require_finite(encoder: Any) -> None:
    """Refuses an encoder whose weights are no numbers; every process must call it.

    Raises:
        HFContrastError: They have NaN or infinite numbers, on this process or another.
    """
    wrong = not_finite(encoder) if isinstance(encoder, nn.Module) else None
    if bool(join_processes(torch.tensor([int(wrong is not None)])).any()):
        raise HFContrastError(
            f"the encoder cannot be evaluated: {wrong or 'the weights of another process have numbers that are NaN or infinite'}; take "
            "an earlier checkpoint, or lower optim.lr where a training has ended so"
        )


def _of_all(evaluator: Evaluator, name: str, value: float, share: float) -> float:
    """A share of some of the images as one of all, where the others are wrong; other figures as they are."""
    figure = evaluator.figure_of(name)
    if figure.kind != "share" or figure.higher_is_better is None:
        return value
    return value * share if figure.higher_is_better else 1 - (1 - value) * share
