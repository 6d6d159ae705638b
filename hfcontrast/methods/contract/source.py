"""Reads what a method declares (docstring, settings, views) from its source, without importing torch and transformers.

Only the statements of a declaration are evaluated: the configuration class, based on a stand-in for MethodConfig, and the
constants and views that it names. Anything that is not plain (a class made by a function, a constant of another library, a
decorator) raises :class:`UnknownSource`; the method is then imported instead.
"""

import ast
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import decode_source, find_spec
from pathlib import Path
from typing import Any, ClassVar

from ...entry_points import PluginEntry
from .statements import bound, changed, handed_over, stored, without_encoder

_ROOT = __name__.partition(".")[0]
_PROGRESS = f"{_ROOT}.methods.contract.progress"  # the home of Phase
_OF_METHODS = {"backbone_config", "training_views"}  # fields of every method's configuration that are no settings
_LIGHT = {"huggingface_hub.dataclasses", "huggingface_hub.errors", f"{_ROOT}.view", f"{_ROOT}.errors", _PROGRESS}
_HOMES = {_ROOT, f"{_ROOT}.methods.base", f"{_ROOT}.methods.config"}  # of Method and MethodConfig


class UnknownSource(Exception):
    """The declaration of a method cannot be read without importing it."""


class Settings:
    """Stand-in for MethodConfig: its subclasses have a configuration's own fields and validators."""

    backbone_config = None
    renamed_settings: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls):
        dataclass(cls, repr=False, kw_only=True)  # as PreTrainedConfig does

    def __post_init__(self, **kwargs: Any) -> None:
        pass


class Declared:
    """Stand-in for a method's class, with its declarations.

    Attributes:
        config_class: Its settings, a subclass of :class:`Settings`.
        views: Its views.
    """

    def __init__(
        self, source: "Source | None" = None, node: ast.ClassDef | None = None, base: "Declared | None" = None
    ):
        self._source, self._node, self._base = source, node, base
        self.__doc__ = (ast.get_docstring(node) if node else None) or (base.__doc__ if base else None)

    @cached_property
    def config_class(self) -> Any:
        found = self._attribute("config_class")
        if not (isinstance(found, type) and issubclass(found, Settings) and found is not Settings):
            raise UnknownSource(f"config_class is {found!r}")
        return found

    @cached_property
    def views(self) -> Any:
        return self._attribute("views")

    @property
    def changes_subclasses(self) -> bool:
        """Whether its subclasses may be changed when they are made."""
        body = self._node.body if self._node else []
        return any(getattr(item, "name", "") == "__init_subclass__" for item in body) or (
            self._base is not None and self._base.changes_subclasses
        )

    @property
    def model_type(self) -> str:
        """The configuration's model_type."""
        return self.config_class.model_type

    def _attribute(self, name: str) -> Any:
        if self._node is None:
            raise UnknownSource(f"{name} is missing")
        values = [item.value for item in self._node.body if name in bound(item)]
        if not values and not any(name in stored(item) for item in self._node.body):
            return getattr(self._base, name)
        if len(values) != 1 or values[0] is None:
            raise UnknownSource(f"{name} is not one plain value")
        return self._source.evaluate(values[0])


def read(entry: PluginEntry) -> Declared:
    """What the method of an entry point declares.

    Raises:
        UnknownSource: It cannot be read from the source.
    """
    module, attribute = entry.module, entry.value.partition(":")[2].partition("[")[0].strip()
    try:
        found = source_of(module).value(attribute)
        if isinstance(found, Declared) and found.config_class and found.views and found.__doc__:
            return found
    except UnknownSource:
        raise
    except Exception as error:  # anything that evaluating a part of a plugin's source raises
        raise UnknownSource(f"{type(error).__name__}: {error}") from error
    raise UnknownSource(f"{entry.value} is not a method")


def source_of(module: str) -> "Source":
    """The source of a module.

    Raises:
        UnknownSource: There is none.
    """
    spec = _spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise UnknownSource(f"{module} has no source")
    changed = Path(spec.origin).stat().st_mtime_ns
    return _parsed(spec.name, spec.origin, bool(spec.submodule_search_locations), changed)


@cache
def _parsed(module: str, path: str, package: bool, changed: int) -> "Source":
    return Source(module, ast.parse(decode_source(Path(path).read_bytes())), package)


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is; unlike ``find_spec`` without importing the packages around it."""
    parent = module.rpartition(".")[0]
    if module in sys.modules:
        return sys.modules[module].__spec__
    if not parent:
        return find_spec(module)
    if parent in sys.modules:
        around = sys.modules[parent].__path__
    else:
        around = getattr(_spec(parent), "submodule_search_locations", None)
    return PathFinder.find_spec(module, around) if around else None


class Source:
    """A module's source.

    Args:
        name: The module's name.
        tree: Its syntax tree.
        package: Whether it is a package.
    """

    def __init__(self, name: str, tree: ast.Module, package: bool):
        self.name, self.package = name, name if package else name.rpartition(".")[0]
        self._values: dict[str, Any] = {}
        self._bindings: dict[str, ast.stmt] = {}
        self._unclear: set[str] = set()
        for item in tree.body:
            plain = bound(item)
            for binding in plain:
                if binding in self._bindings:
                    self._unclear.add(binding)
                self._bindings[binding] = item
            self._unclear |= stored(item) - plain
        for item in tree.body:
            self._unclear |= changed(item) | {
                part for part in handed_over(item) if isinstance(self._bindings.get(part), ast.ClassDef)
            }

    def value(self, name: str) -> Any:
        """The value of a name of the module.

        Raises:
            UnknownSource: It cannot be read from the source.
        """
        if name not in self._values:
            item = self._bindings.get(name)
            if item is None or name in self._unclear:
                raise UnknownSource(f"{self.name}.{name} is not bound once, at the top")
            self._values[name] = self._value(name, item)
        return self._values[name]

    def evaluate(self, expression: ast.expr) -> Any:
        """The value of an expression over names of the module."""
        return eval(compile(ast.Expression(expression), self.name, "eval"), self._namespace(expression))

    def _value(self, name: str, item: ast.stmt) -> Any:
        if isinstance(item, ast.ImportFrom):
            return self._imported(
                item, next(alias.name for alias in item.names if (alias.asname or alias.name) == name)
            )
        if isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
            return self.evaluate(item.value)
        if isinstance(item, ast.ClassDef) and len(item.bases) == 1 and not item.keywords:
            base = self.evaluate(item.bases[0])
            if isinstance(base, Declared) and not item.decorator_list and not base.changes_subclasses:
                return Declared(self, item, base)
            if isinstance(base, type) and issubclass(base, Settings):
                return self._settings(item)
        raise UnknownSource(f"{self.name}.{name} is not plain")

    def _imported(self, item: ast.ImportFrom, name: str) -> Any:
        module = item.module or ""
        if item.level:
            parts = self.package.split(".")
            module = ".".join([*parts[: len(parts) - item.level + 1], *([module] if module else [])])
        if module in _HOMES and name in ("Method", "MethodConfig"):
            return Declared() if name == "Method" else Settings
        if module in _HOMES and name == "Phase":
            module = _PROGRESS
        if (module, name) == (_ROOT, "View"):
            module = f"{_ROOT}.view"
        if module in _LIGHT or module.partition(".")[0] in sys.stdlib_module_names:
            return getattr(import_module(module), name)
        return source_of(module).value(name)

    def _settings(self, item: ast.ClassDef) -> type[Settings]:
        """The configuration class, without code that reads its encoder's configuration, which is not known here."""
        body = [without_encoder(statement) for statement in item.body]
        node = ast.ClassDef(item.name, item.bases, [], body, item.decorator_list)
        namespace = self._namespace(node)
        exec(compile(ast.fix_missing_locations(ast.Module([node], [])), self.name, "exec"), namespace)
        return namespace[item.name]

    def _namespace(self, node: ast.AST) -> dict[str, Any]:
        """The module's names that a statement uses, as far as they can be read."""
        found = {"__name__": self.name}
        for name in {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} & self._bindings.keys():
            try:
                found[name] = self.value(name)
            except (UnknownSource, SyntaxError, RecursionError):
                continue  # a NameError where it is needed
        return found


@cache
def inherited_fields() -> frozenset[str]:
    """The fields that every configuration of a method has: transformers' and ``MethodConfig``'s."""
    if "transformers.configuration_utils" in sys.modules:
        from dataclasses import fields

        from transformers import PreTrainedConfig

        return frozenset(field.name for field in fields(PreTrainedConfig)) | _OF_METHODS
    spec = _spec("transformers.configuration_utils")
    tree = ast.parse(decode_source(Path(spec.origin).read_bytes()))
    classes = [item for item in tree.body if isinstance(item, ast.ClassDef) and item.name == "PreTrainedConfig"]
    items = [item for item in classes[0].body if isinstance(item, ast.AnnAssign)]
    names = {item.target.id for item in items if "ClassVar" not in ast.unparse(item.annotation)}
    return frozenset(names) | _OF_METHODS
