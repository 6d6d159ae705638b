"""Built-in data sets: each is a module of ``hfcontrast.data.builtin``, found by its name."""

import importlib
import pkgutil
from functools import partial
from types import ModuleType

from hfcontrast.data import builtin
from hfcontrast.data.sources.slices import slice_splits
from hfcontrast.data.sources.source import Opened, Source
from hfcontrast.errors import DataError

PREFIX = "builtin/"


def takes(source: Source) -> bool:
    """Whether the path is ``builtin/NAME``."""
    return source.path.startswith(PREFIX)


def splits(source: Source) -> list[str]:
    """The names of its splits."""
    return list(_find(source)[1])


def open_split(source: Source, split: str, streaming: bool) -> Opened:
    """One split, a slice or a sum of some; as a stream where that is asked for."""
    module, sizes = _find(source)
    path = source.path if source.name is None else f"{source.path} {source.name}"
    load = partial(module.load, configuration=source.name)
    return slice_splits(sizes, load, split, streaming, source.path, lambda name: f"{path}, {name}")


def _find(source: Source) -> tuple[ModuleType, dict[str, int]]:
    names = sorted(found.name for found in pkgutil.iter_modules(builtin.__path__))
    name = source.path.removeprefix(PREFIX)
    if name not in names:
        raise DataError(f"there is no {source.path}; built in are {', '.join(PREFIX + name for name in names)}")
    module = importlib.import_module(f"{builtin.__name__}.{name}")
    if source.name not in module.CONFIGURATIONS:
        known = ", ".join(name for name in module.CONFIGURATIONS if name) or "none but the default (null)"
        raise DataError(f"{source.path} has no configuration {source.name!r}; there is {known}")
    return module, module.CONFIGURATIONS[source.name]
