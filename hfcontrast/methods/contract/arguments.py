"""Arguments of a method's steps: a batch is handed over by their names, and what no batch has is a column of the data."""

import inspect
from collections.abc import Callable
from typing import Any

# What every batch has, or has where there are labels or captions; the views come under their own keys.
OF_A_BATCH = ("index", "labels", "input_ids", "attention_mask")


def required(step: Callable, own: int) -> list[str]:
    """Names of a step's arguments without default.

    Args:
        step: A function of the class.
        own: Arguments at its beginning that the base fills: ``self``, and ``objective``'s embeddings.
    """
    arguments = list(inspect.signature(step).parameters.values())[own:]
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [a.name for a in arguments if a.default is a.empty and a.kind not in variable]


def columns(method: type) -> tuple[str, ...]:
    """Arguments without default of ``embed`` and ``objective`` that no batch has by itself."""
    known = {*OF_A_BATCH, *(view.key for view in method.views)}
    names = (*required(method.embed, 1), *required(method.objective, 2))
    return tuple(dict.fromkeys(name for name in names if name not in known))


def named_by(function: Callable, batch: dict[str, Any]) -> dict[str, Any]:
    """The entries of a batch that a function takes; all of them for one that takes any."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return batch
    return {name: value for name, value in batch.items() if name in parameters}
