"""Members of :class:`~hfcontrast.Method` in version 0.1 that are functions, attributes or part of the configuration now."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from . import arguments, steps
from .calling import declared_images
from .freezing import after_backward
from .modules import copies_made, declared_modules
from .old_names import forwarding
from .progress import Phase

if TYPE_CHECKING:
    from ..base import Method


def _phases(method: "Method", steps_per_epoch: int, batch_size: int) -> list[Phase]:
    return method.config.training_phases(steps_per_epoch, batch_size)


def _compiled_parts(method: "Method") -> list[nn.Module]:
    return declared_modules(method)


OF_THE_CLASS: dict[str, Callable[..., Any]] = {
    "needs_labels": arguments.labels_required,
    "needs_captions": arguments.captions_required,
    "needed_columns": arguments.columns,
    "fewest_images": declared_images,
}
OF_THE_INSTANCE: dict[str, Callable[..., Any]] = {
    "start_step": steps.begin,
    "computing": steps.computing,
    "checked": steps.checked,
    "copy_teachers": copies_made,
    "phases": _phases,
    "compiled_parts": _compiled_parts,
}


def keep_moved_members(method_class: "type[Method]") -> None:
    """Lets code of version 0.1 call them, by themselves or with ``super()``, each with one warning.

    Args:
        method_class: ``Method``.
    """
    for name, function in OF_THE_CLASS.items():
        setattr(method_class, name, classmethod(forwarding(name, function)))
    for name, function in OF_THE_INSTANCE.items():
        setattr(method_class, name, forwarding(name, function))
    method_class.after_backward = after_backward
