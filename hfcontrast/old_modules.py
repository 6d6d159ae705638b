"""Makes what `renamed` lists importable: modules by their old names, and the old public names of modules.

No other module is imported before an old name is used.
"""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from .renamed import CONSTANTS, MODULES, NAMES, UNTIL, OldNameWarning, warn

# Module of today -> its old names, as the tables above have them.
_OLD_NAMES: dict[str, dict[str, str]] = {}
for _old in (*NAMES, *CONSTANTS):
    _room, _, _name = _old.rpartition(".")
    _OLD_NAMES.setdefault(MODULES.get(_room, _room), {})[_name] = _old


class _WithOldNames(SourceFileLoader):
    """Loads a module that had public names which are called otherwise now: they are found by their old names."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        root, _, room = module.__name__.partition(".")
        old_names, own = _OLD_NAMES[room], vars(module).get("__getattr__")

        def __getattr__(name: str) -> Any:
            if name in old_names:
                return _renamed(root, old_names[name])
            if own is not None:
                return own(name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        vars(module)["__getattr__"] = __getattr__


def _renamed(root: str, old: str) -> Any:
    """What an old public name means now, with a warning at the line that asks for it."""
    if old in CONSTANTS:
        text = f"{root}.{old} is used by nothing any more; it can be imported until hfcontrast {UNTIL}"
        warnings.warn(text, OldNameWarning, stacklevel=3)
        return CONSTANTS[old]
    new = NAMES[old]
    warn(f"{root}.{old}", f"{root}.{new}", stacklevel=4)
    home, _, name = new.rpartition(".")
    return getattr(import_module(f"{root}.{home}"), name)


class _OldModules(MetaPathFinder, Loader):
    """Finds modules by their old names: the very module of the new name, so that its classes exist once.

    Modules of today that have old names of theirs are found as usual, and loaded with these.
    """

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        root, _, room = fullname.partition(".")
        if root != __package__:
            return None
        if room in MODULES:
            return ModuleSpec(fullname, self)
        spec = PathFinder.find_spec(fullname, path) if room in _OLD_NAMES else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _WithOldNames(fullname, spec.loader.path)
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        root, _, old = spec.name.partition(".")
        new = f"{root}.{MODULES[old]}"
        warn(spec.name, new)
        module = import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state  # the module keeps the specification of its new name

    def get_code(self, fullname: str) -> CodeType:
        """What ``python -m`` runs by an old name: the module of the new one."""
        root, _, old = fullname.partition(".")
        new = f"{root}.{MODULES[old]}"
        warn(fullname, new)
        return compile(
            f"import runpy; runpy.run_module({new!r}, run_name='__main__', alter_sys=True)", fullname, "exec"
        )


def find_old_modules() -> None:
    """Makes old module names importable. Asked first: what a moved package finds by itself would be a second copy of its modules."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OldModules())
