"""Members of the contract that got a new name: a class that still defines or calls an old one keeps working, with one warning."""

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
_warned: set[tuple[type, str]] = set()


def follow_old_names(cls: type, stacklevel: int = 4) -> None:
    """Makes what a class defines under one name known under the other: the framework asks for the new one, old code for the old.

    Args:
        cls: A class of methods, when it is made.
        stacklevel: Whose line the warning shows, as for ``warnings.warn`` called by ``renamed.warn``.
    """
    if definer(cls, "after_backward") < _base(cls, "frozen"):
        _warn_once(cls, "after_backward", stacklevel + 1)
    for old, new in RENAMED.items():
        of_old, of_new = definer(cls, old), definer(cls, new)
        if of_old < of_new:
            value = vars(cls.__mro__[of_old])[old]
            _warn_once(cls, old, stacklevel + 1)
            setattr(cls, new, value)
        elif of_new < of_old:
            value = vars(cls.__mro__[of_new])[new]
            setattr(cls, old, _forwarding(old, value))


def definer(cls: type, name: str) -> int:
    """Which class of the resolution order defines a name; their number where none does."""
    return next((place for place, kind in enumerate(cls.__mro__) if name in vars(kind)), len(cls.__mro__))


def _base(cls: type, name: str) -> int:
    """The last class of the resolution order that defines a name: the contract itself."""
    return max((place for place, kind in enumerate(cls.__mro__) if name in vars(kind)), default=0)


def _forwarding(old: str, value: Any) -> Any:
    """What an old name is where the class defines the new one: the same, with a warning where it can be given."""
    if isinstance(value, classmethod):
        return classmethod(_warning(old, value.__func__))
    return _warning(old, value) if callable(value) else value


def _warning(old: str, function: Callable) -> Callable:
    @functools.wraps(function)
    def called(owner: Any, *args: Any, **batch: Any) -> Any:
        _warn_once(owner if isinstance(owner, type) else type(owner), old, 4)
        return function(owner, *args, **batch)

    return called


def _warn_once(cls: type, old: str, stacklevel: int) -> None:
    if (cls, old) not in _warned:
        _warned.add((cls, old))
        warn(
            f"method {cls.__module__}.{cls.__qualname__}: {old}",
            (RENAMED | {"after_backward": "frozen"})[old],
            stacklevel,
        )
