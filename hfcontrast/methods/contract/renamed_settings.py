"""Renamed settings of methods: the old name keeps working, with one warning that gives the new one."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from ...renamed import warn


def with_new_names(config_class: type, values: Mapping[str, Any], stacklevel: int = 3) -> dict[str, Any]:
    """Settings under their current names, in the same order.

    Args:
        config_class: The configuration of the method; its ``renamed_settings`` maps old names to new ones.
        values: Settings by name, old or new.
        stacklevel: Whose line the warning shows, as for ``warnings.warn`` called here.

    Raises:
        ValueError: A setting is given under both names.
    """
    found = {}
    for name, value in values.items():
        new = config_class.renamed_settings.get(name)
        if new is not None:
            if new in values:
                raise ValueError(f"{name} is called {new} now, and both are given: keep {new}")
            warn(f"the setting {name} of {config_class.__name__}", new, stacklevel + 1)
        found[new or name] = value
    return found


def first_names(config_class: type, names: Iterable[str]) -> dict[str, str]:
    """The first name of each setting, by its current name: fingerprints of recipes are computed from these."""
    oldest: dict[str, str] = {}
    for old, new in config_class.renamed_settings.items():
        oldest.setdefault(new, old)
    return {name: oldest.get(name, name) for name in names}


def accept_old_names(config_class: type) -> None:
    """Lets a configuration be created with old names: they are replaced before its fields are set, since ``__post_init__``
    reads these."""
    if config_class.renamed_settings and "__init__" in vars(config_class):
        made = config_class.__init__

        @functools.wraps(made)
        def __init__(self, *args: Any, **settings: Any) -> None:
            # Past this frame and the one that @strict puts around it, which validates.
            made(self, *args, **with_new_names(type(self), settings, stacklevel=4))

        config_class.__init__ = __init__
        config_class.attribute_map = {**config_class.attribute_map, **config_class.renamed_settings}
