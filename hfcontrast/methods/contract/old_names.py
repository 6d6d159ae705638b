"""Members of the contract that have another name or place now: a class that still defines or calls an old one keeps working, with
one warning."""

import functools
from collections.abc import Callable
from typing import Any

from ...renamed import warn

# Old name -> new name.
RENAMED = {
    "depict": "visualize",
    "hold_still": "keep_in_eval_mode",
    "draws": "random_uniform",
    "measure": "compute_data_statistics",
    "measured": "data_statistics",
}
# Old name -> what took its place, for members that are no longer functions of the class (see moved.py).
_ARGUMENTS, _STEPS = "hfcontrast.methods.contract.arguments", "hfcontrast.methods.contract.steps"
MOVED = {
    "after_backward": "frozen",
    "needs_labels": f"{_ARGUMENTS}.needs_labels",
    "needs_captions": f"{_ARGUMENTS}.needs_captions",
    "needed_columns": f"{_ARGUMENTS}.needed_columns",
    "start_step": f"{_STEPS}.start_step",
    "computing": f"{_STEPS}.computing",
    "checked": f"{_STEPS}.checked",
    "copy_teachers": "hfcontrast.methods.contract.modules.copy_teachers",
    "fewest_images": "min_images and min_images_normalized (numbers or hfcontrast.BySetting)",
    "compiled_parts": "compiled_modules",
    "phases": "training_phases of the configuration",
}
_warned: set[tuple[type, str]] = set()


def follow_old_names(cls: type, stacklevel: int = 4) -> None:
    """Makes what a class defines under one name known under the other: the framework asks for the new one, old code for the old.

    Args:
        cls: A class of methods, when it is made.
        stacklevel: Whose line the warning shows, as for ``warnings.warn`` called by ``renamed.warn``.
    """
    for old in MOVED:
        if overrides(cls, old):
            _warn_once(cls.__mro__[definer(cls, old)], old, stacklevel + 1)
    for old, new in RENAMED.items():
        of_old, of_new = definer(cls, old), definer(cls, new)
        if of_old < of_new:
            value = vars(cls.__mro__[of_old])[old]
            _warn_once(cls, old, stacklevel + 1)
            setattr(cls, new, value)
        elif of_new < of_old:
            value = vars(cls.__mro__[of_new])[new]
            setattr(cls, old, _under_old_name(old, value))


def definer(cls: type, name: str) -> int:
    """Which class of the resolution order defines a name; their number where none does."""
    return next((place for place, kind in enumerate(cls.__mro__) if name in vars(kind)), len(cls.__mro__))


def overrides(cls: type, name: str) -> bool:
    """Whether a class below the contract itself, the last one that defines a name, defines it too."""
    last = max((place for place, kind in enumerate(cls.__mro__) if name in vars(kind)), default=0)
    return definer(cls, name) < last


def overridden(owner: Any, name: str) -> Callable[..., Any] | None:
    """A member of version 0.1 as a plugin's class defines it; None where only the contract has it.

    Args:
        owner: The method, or its class.
        name: The member.
    """
    return getattr(owner, name) if overrides(owner if isinstance(owner, type) else type(owner), name) else None


def _under_old_name(old: str, value: Any) -> Any:
    """What an old name is where the class defines the new one: the same, with a warning where it can be given."""
    if isinstance(value, classmethod):
        return classmethod(forwarding(old, value.__func__))
    return forwarding(old, value) if callable(value) else value


def forwarding(old: str, function: Callable) -> Callable:
    """A function under its old name: the same, with one warning for each class."""

    @functools.wraps(function)
    def called(owner: Any, *args: Any, **batch: Any) -> Any:
        cls = owner if isinstance(owner, type) else type(owner)
        if not (old in MOVED and overrides(cls, old)):  # else called by super(), and told when the class was made
            _warn_once(cls, old, 4)
        return function(owner, *args, **batch)

    return called


def _warn_once(cls: type, old: str, stacklevel: int) -> None:
    if (cls, old) not in _warned:
        _warned.add((cls, old))
        warn(
            f"method {cls.__module__}.{cls.__qualname__}: {old}",
            (RENAMED | MOVED)[old],
            stacklevel,
        )
