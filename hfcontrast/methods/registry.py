"""The registry: which methods are installed, and the class behind a name. Listing them imports none of them."""

import difflib
import re
import types
import typing
import warnings
from dataclasses import MISSING, dataclass, fields
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import PluginError

if TYPE_CHECKING:
    from .base import Method

GROUP = "hfcontrast.methods"


@dataclass(frozen=True)
class MethodEntry:
    """A method that is installed, as its distribution declares it.

    Args:
        name: What recipes call it.
        value: Where its class is: `module:Class`.
        distribution: The distribution that declares it; None for a class registered in this process.
        version: The version of the distribution.
        problem: Why it cannot be used, as far as that is known without an import; None when nothing is.
    """

    name: str
    value: str
    distribution: str | None = None
    version: str | None = None
    problem: str | None = None

    @property
    def origin(self) -> str:
        """The distribution and its version, as messages name them."""
        return f"{self.distribution} {self.version}" if self.distribution else "this process"


@dataclass(frozen=True)
class MethodField:
    """A setting of a method.

    Args:
        name: The key in the recipe's `method` section.
        type: Its type annotation.
        type_text: The type in a reader's notation: `float | int`, `'mlp' | 'linear'`.
        default: What it is when the recipe does not say.
        meaning: Its entry under `Args:` in the configuration's docstring; empty when there is none.
        validity: What the configuration checks of it: the docstring of its `validate_NAME`; empty when there is none.
    """

    name: str
    type: Any
    type_text: str
    default: Any
    meaning: str
    validity: str


_in_process: dict[str, "type[Method]"] = {}
_claims: dict[str, "tuple[type[Method], str]"] = {}  # model_type -> the class that has it, and where that comes from
_contested: dict[str, str] = {}  # model_type -> why nobody gets it


def installed() -> dict[str, MethodEntry]:
    """Returns all installed methods by name, without importing any of them."""
    claims: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        # One distribution can be found twice, as an editable install beside its egg-info: that is no clash.
        distribution = re.sub(r"[-_.]+", "-", point.dist.name).lower()
        claims.setdefault(point.name, {}).setdefault((distribution, point.value), point)
    entries = {name: _entry(name, list(points.values())) for name, points in claims.items()}
    for name, cls in _in_process.items():
        entries[name] = MethodEntry(name, f"{cls.__module__}:{cls.__qualname__}")
    return dict(sorted(entries.items()))


def _entry(name: str, points: list[EntryPoint]) -> MethodEntry:
    problem = None
    if len(points) > 1:
        who = " and ".join(f"{point.dist.name} {point.dist.version} ({point.value})" for point in points)
        problem = f"the name '{name}' is claimed by {who}; uninstall all but one of them"
    first = points[0]
    return MethodEntry(name, first.value, first.dist.name, first.dist.version, problem)


def get_method(name: str) -> "type[Method]":
    """Returns the class of a method, and registers it with transformers. Imports this one method only.

    Raises:
        PluginError: It is not installed, fails to import, is no method, or its name or model_type is claimed twice.
    """
    if name in _in_process:
        return _in_process[name]
    entries = installed()
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise PluginError(
            f"no method '{name}' is installed; {hint}Installed: {', '.join(entries) or 'none'}. "
            "Others come with the Python package that has them: pip install it"
        )
    return _use(entries[name])


def _use(entry: MethodEntry) -> "type[Method]":
    if entry.problem:
        raise PluginError(f"method '{entry.name}' cannot be used: {entry.problem}")
    cls = _load(entry)
    claim(cls.config_class.model_type, cls, entry.origin)
    _register_with_transformers(cls, entry.name)
    return cls


def _load(entry: MethodEntry) -> "type[Method]":
    from .base import Method

    what = f"method '{entry.name}' of {entry.origin} ({entry.value})"
    try:
        cls = EntryPoint(entry.name, entry.value, GROUP).load()
    except Exception as error:  # whatever a plugin's own code raises while it is imported
        cause = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
        raise PluginError(f"{what} cannot be imported: {cause}. Repair or uninstall {entry.distribution}") from error
    if not (isinstance(cls, type) and issubclass(cls, Method) and cls is not Method):
        kind = f"the class {cls.__qualname__}" if isinstance(cls, type) else f"an object of type {type(cls).__name__}"
        raise PluginError(f"{what} is {kind}, expected a subclass of hfcontrast.Method; its entry point is wrong")
    return cls


def claim(model_type: str, cls: "type[Method]", origin: str) -> None:
    """Notes which class a model_type belongs to: a saved model is found again by it, so it can have only one.

    Args:
        model_type: The configuration's `model_type`.
        cls: The class that wants it.
        origin: The distribution and version that the class comes from.

    Raises:
        PluginError: Another class has it; from then on neither can be used, as loading would pick one by chance.
    """
    other, other_origin = _claims.setdefault(model_type, (cls, origin))
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        _contested[model_type] = (
            f"model_type '{model_type}' is claimed by {other.__module__}.{other.__qualname__} of {other_origin} and by "
            f"{cls.__module__}.{cls.__qualname__} of {origin}; rename it in one of them, or uninstall that one"
        )
    if model_type in _contested:
        raise PluginError(_contested[model_type])
    _claims[model_type] = (cls, origin)  # the newest version of a class that a notebook defines again


def _register_with_transformers(cls: "type[Method]", name: str) -> None:
    from transformers import AutoConfig, AutoModel

    try:
        AutoConfig.register(cls.config_class.model_type, cls.config_class, exist_ok=True)
        AutoModel.register(cls.config_class, cls, exist_ok=True)
    except ValueError as error:
        raise PluginError(
            f"transformers refuses method '{name}' ({cls.__module__}.{cls.__qualname__}): {error}"
        ) from error


def register(cls: "type[Method]", name: str | None = None) -> "type[Method]":
    """Makes a class that no distribution declares usable by name in this process: for notebooks and tests.

    Args:
        cls: The method; also works as a decorator.
        name: What recipes call it; None takes its model_type without `hfcontrast_`.

    Raises:
        PluginError: An installed method has the name, or another class the model_type.
    """
    name = name or cls.config_class.model_type.removeprefix("hfcontrast_")
    entry = installed().get(name)
    if entry is not None and entry.distribution is not None:
        raise PluginError(f"the name '{name}' belongs to the installed {entry.value} of {entry.origin}; choose another")
    claim(cls.config_class.model_type, cls, "this process")
    _register_with_transformers(cls, name)
    _in_process[name] = cls
    return cls


def register_all() -> None:
    """Imports every installed method and registers it with transformers, so that `AutoModel` knows them.

    A method that cannot be used is one warning, and never hides the others.
    """
    for name, entry in installed().items():  # a look at all distributions is slow: one will do
        if name in _in_process:
            continue
        try:
            _use(entry)
        except PluginError as error:
            warnings.warn(str(error), stacklevel=2)


def method_fields(cls: "type[Method]") -> list[MethodField]:
    """Returns a method's own settings, in the order of its configuration class."""
    from transformers import PreTrainedConfig

    config = cls.config_class
    inherited = {field.name for field in fields(PreTrainedConfig)} | {"backbone_config"}
    hints, meanings = _type_hints(config), _meanings(config)
    found = []
    for field in fields(config):
        if field.name in inherited or not field.init:
            continue
        kind = hints.get(field.name, field.type)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        validator = getattr(config, f"validate_{field.name}", None)
        found.append(
            MethodField(
                name=field.name,
                type=kind,
                type_text=type_text(kind),
                default=None if default is MISSING else default,
                meaning=meanings.get(field.name, ""),
                validity=((validator and validator.__doc__) or "").strip(),
            )
        )
    return found


def _type_hints(config: type) -> dict[str, Any]:
    try:
        return get_type_hints(config)
    except NameError:  # a name that only type checkers import: the annotations as they are
        return {}


def type_text(kind: Any) -> str:
    """Returns a type annotation in a reader's notation."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is type(None):
        return "null"
    if origin in (Union, types.UnionType):
        return " | ".join(type_text(part) for part in arguments)
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if origin is typing.Annotated:
        return type_text(arguments[0])
    if arguments and isinstance(origin, type):
        inner = ", ".join("..." if part is Ellipsis else type_text(part) for part in arguments)
        return f"{origin.__name__}[{inner}]"
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _meanings(config: type) -> dict[str, str]:
    """Collects the entries under `Args:` of a configuration's docstring and of those it inherits from."""
    meanings: dict[str, str] = {}
    for cls in config.__mro__:
        for name, meaning in _arguments(cls.__dict__.get("__doc__") or "").items():
            meanings.setdefault(name, meaning)
    return meanings


def _arguments(docstring: str) -> dict[str, str]:
    """Parses the `Args:` block of a Google-style docstring into name -> meaning, continuation lines joined."""
    block = re.search(r"^([ \t]*)Args:[ \t]*\n((?:\1[ \t]+\S.*\n?|[ \t]*\n)+)", docstring, re.MULTILINE)
    if not block:
        return {}
    lines = [line for line in block[2].splitlines() if line.strip()]
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    found: dict[str, str] = {}
    name = None
    for line in lines:
        start = re.match(r"\s*(\w+)\s*(?:\([^)]*\))?:\s*(.*)", line)
        if start and len(line) - len(line.lstrip()) == indent:
            name = start[1]
            found[name] = start[2].strip()
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found
