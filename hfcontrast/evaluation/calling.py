"""Calls of evaluators: an exception in one becomes an error that names the evaluator."""

import traceback
from typing import Any

from ..errors import PluginError, out_of_memory
from .protocol import Evaluator, Scores
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
    """Calls ``evaluate`` and returns what it returns.

    Args:
        evaluator: The evaluator.
        encoder: What is evaluated: an encoder, or raw pixels.
        rows: The images.
        settings: An instance of the evaluator's ``settings_class``.

    Raises:
        PluginError: It raised what a mistake ends in, returned no :class:`.protocol.Scores`, or a figure that is not declared.
        NothingToEvaluate: No row can be evaluated on.
    """
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
    return found
