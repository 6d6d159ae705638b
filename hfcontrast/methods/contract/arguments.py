"""Arguments of a method's steps: batch entries are passed by name, and any other required argument is a column of the data."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .old_names import overridden

if TYPE_CHECKING:
    from ..base import Method

# What every batch has, or has where there are labels or captions; the views come under their own keys.
OF_A_BATCH = ("index", "labels", "input_ids", "attention_mask")


def needs_labels(method_class: "type[Method]") -> bool:
    """Whether ``embed`` or ``objective`` has ``labels`` as an argument without default."""
    own = overridden(method_class, "needs_labels")
    return own() if own else labels_required(method_class)


def reads_labels(method_class: "type[Method]") -> bool:
    """Whether ``embed`` or ``objective`` takes ``labels``, be it as an argument with a default."""
    steps = (method_class.embed, method_class.objective)
    return needs_labels(method_class) or any("labels" in inspect.signature(step).parameters for step in steps)


def needs_captions(method_class: "type[Method]") -> bool:
    """Whether ``embed`` or ``objective`` has ``input_ids``, the tokens of captions, as an argument without default."""
    own = overridden(method_class, "needs_captions")
    return own() if own else captions_required(method_class)


def needed_columns(method_class: "type[Method]") -> tuple[str, ...]:
    """Arguments without default that no batch has by itself: columns of the data, batched as tensors."""
    own = overridden(method_class, "needed_columns")
    return own() if own else columns(method_class)


def labels_required(method_class: "type[Method]") -> bool:
    """What the arguments say of labels."""
    return "labels" in _required_of(method_class)


def captions_required(method_class: "type[Method]") -> bool:
    """What the arguments say of captions."""
    return "input_ids" in _required_of(method_class)


def columns(method_class: "type[Method]") -> tuple[str, ...]:
    """What the arguments say of the data's columns."""
    known = {*OF_A_BATCH, *(view.key for view in method_class.views)}
    return tuple(dict.fromkeys(name for name in _required_of(method_class) if name not in known))


def _required_of(method_class: "type[Method]") -> tuple[str, ...]:
    return (*required(method_class.embed, 1), *required(method_class.objective, 2))


def required(step: Callable, own: int) -> list[str]:
    """Names of a step's arguments without default.

    Args:
        step: A function of the class.
        own: Arguments at its beginning that are not of the batch: ``self``, and ``objective``'s embeddings.
    """
    arguments = list(inspect.signature(step).parameters.values())[own:]
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [a.name for a in arguments if a.default is a.empty and a.kind not in variable]


def named_by(function: Callable, batch: dict[str, Any]) -> dict[str, Any]:
    """The entries of a batch that a function takes; all of them if it has ``**kwargs``."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return batch
    return {name: value for name, value in batch.items() if name in parameters}
