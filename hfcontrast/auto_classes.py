"""What `import hfcontrast` adds to transformers' Auto classes: methods and own architectures, each imported when it is asked for.

Nothing is imported here: the tables of transformers are completed when transformers itself is imported, before or after
hfcontrast, and a model_type that none of our classes can have never imports one.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_PREFIX = "hfcontrast_"  # of every method's model_type
_TABLES = {  # module of transformers -> its tables
    "transformers.models.auto.configuration_auto": ("CONFIG_MAPPING",),
    "transformers.models.auto.modeling_auto": ("MODEL_MAPPING", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING"),
}


class LazyEntries(dict):
    """The registered entries of a table of transformers, which looks for those of hfcontrast when they are asked for.

    Keys are model types, or configuration classes, which have one.
    """

    def __init__(self, entries: dict[Any, Any]):
        super().__init__(entries)
        self._looking_for: set[tuple[int, Any]] = set()  # (thread, key): another thread's import is waited for

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or (self._look_for(key) and super().__contains__(key))

    def __missing__(self, key: Any) -> Any:
        if self._look_for(key) and super().__contains__(key):
            return super().__getitem__(key)
        raise KeyError(key)

    def _look_for(self, key: Any) -> bool:
        """Registers what a key belongs to; whether it can be one of ours at all."""
        model_type = key if isinstance(key, str) else getattr(key, "model_type", None)
        if not isinstance(model_type, str) or (threading.get_ident(), key) in self._looking_for:
            return False
        method = model_type.startswith(_PREFIX)
        if not method and not _is_own_architecture(model_type):
            return False
        with self._looking(key):
            if not method:
                import_module(f"{__package__}.encoders.own_architectures")
            else:
                import_module(f"{__package__}.methods.registry").register_model_type(model_type)
        return True

    @contextmanager
    def _looking(self, key: Any) -> Iterator[None]:
        looking = (threading.get_ident(), key)
        self._looking_for.add(looking)
        try:
            yield
        finally:
            self._looking_for.discard(looking)


def _is_own_architecture(name: str) -> bool:
    return name in import_module(f"{__package__}.encoders.config").OWN  # known there alone


def complete(module: ModuleType) -> None:
    """Completes the tables of a module of transformers.

    Args:
        module: One of those that have tables.
    """
    for name in _TABLES[module.__name__]:
        table = getattr(module, name)
        if not isinstance(table._extra_content, LazyEntries):
            table._extra_content = LazyEntries(table._extra_content)


class _Completed(MetaPathFinder):
    """Finds the modules with the tables as Python does, and completes them when they have been imported."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname not in _TABLES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            setattr(spec.loader, "exec_module", _then_complete(spec.loader.exec_module))  # noqa: B010
        return spec


def _then_complete(exec_module: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def run(module: ModuleType) -> None:
        exec_module(module)
        complete(module)

    return run


def know_methods() -> None:
    """Makes the Auto classes know the installed methods, whether transformers is imported already or will be."""
    for name in _TABLES:
        if name in sys.modules:
            complete(sys.modules[name])
    if not any(isinstance(finder, _Completed) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Completed())
