"""A step of a method as the framework runs it: its beginning, ``embed`` and ``objective``."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .arguments import named_by
from .calling import call_hook
from .declaration import called
from .old_names import overridden
from .output import MethodOutput
from .progress import Progress
from .returned import check_returned
from .unstepped import note_pass

if TYPE_CHECKING:
    from ..base import Method


def start_step(method: "Method", progress: Progress) -> None:
    """Begins an optimizer step: sets ``method.progress``, then calls ``before_step``."""
    own = overridden(method, "start_step")
    own(progress) if own else begin(method, progress)


def begin(method: "Method", progress: Progress) -> None:
    """What :func:`start_step` does where a plugin's class has no ``start_step`` of version 0.1."""
    method.progress = progress
    call_hook(method, "before_step", progress)


def embed(method: "Method", batch: dict[str, Any]) -> dict[str, Tensor]:
    """Calls ``embed`` with the batch entries that it names.

    Args:
        method: The method.
        batch: Tensors by name, (B, ...) each.
    """
    with _computing(method):
        return method.embed(**named_by(method.embed, batch))


def objective(method: "Method", embeddings: dict[str, Tensor], batch: dict[str, Any]) -> MethodOutput:
    """Calls ``objective`` with the embeddings and the batch entries that it names.

    Raises:
        PluginError: It does not return what it should.
    """
    with _computing(method):
        output = method.objective(embeddings, **named_by(method.objective, batch))
    note_pass(method)
    own = overridden(method, "checked")
    return own(output) if own else checked(method, output)


def checked(method: "Method", output: MethodOutput) -> MethodOutput:
    """The output of ``objective``, unchanged.

    Raises:
        PluginError: It is not a valid :class:`~hfcontrast.MethodOutput`.
    """
    check_returned(output, MethodOutput, called(type(method)))
    return output


@contextlib.contextmanager
def computing(method: "Method") -> Iterator[None]:
    """The context of ``embed`` and ``objective``, which change no state: ``update_teachers`` is refused in it."""
    method._computing = True
    try:
        yield
    finally:
        method._computing = False


def _computing(method: "Method") -> contextlib.AbstractContextManager[None]:
    own = overridden(method, "computing")
    return own() if own else computing(method)
