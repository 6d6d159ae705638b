"""The registry: which methods are installed, and the class behind a name. Listing them imports none of them."""

import sys
import warnings
from typing import TYPE_CHECKING, Any

from ..entry_points import METHODS, PluginEntry, StillImporting, declared, described, load, not_installed, undeclared
from ..errors import PluginError
from .contract import source
from .contract.renamed_settings import first_names, with_new_names
from .contract.settings import MethodField, method_fields, type_text

if TYPE_CHECKING:
    from .base import Method

__all__ = [
    "MethodField",
    "PluginEntry",
    "claim",
    "class_made",
    "declaration",
    "first_names",
    "get_method",
    "installed",
    "method_fields",
    "register",
    "register_all",
    "register_model_type",
    "type_text",
    "with_new_names",
]

_in_process: dict[str, "type[Method]"] = {}
_claims: dict[str, "tuple[type[Method], str]"] = {}  # model_type -> the class that has it, and where that comes from
_contested: dict[str, str] = {}  # model_type -> the error of all classes that claim it
_warned: set[str] = set()


def installed() -> dict[str, PluginEntry]:
    """Returns all installed methods by name, without importing any of them."""
    entries = declared(METHODS)
    for name, cls in _in_process.items():
        entries[name] = PluginEntry(name, f"{cls.__module__}:{cls.__qualname__}")
    return dict(sorted(entries.items()))


def get_method(name: str) -> "type[Method]":
    """Returns the class of a method, and registers it with transformers. Imports this one method only.

    Raises:
        PluginError: It is not installed, fails to import, is not a method, or its name or model_type is claimed twice.
    """
    if name in _in_process:
        return _in_process[name]
    entries = installed()
    if name not in entries:
        raise PluginError(
            f"{undeclared(METHODS, entries) or not_installed('method', name, entries)}; a class of this process is made known by hfcontrast.register(CLASS)"
        )
    return _use(entries[name])


def declaration(name: str) -> "type[Method] | source.Declared":
    """What a method declares (docstring, ``config_class``, ``views``): read from its source, else the class itself.

    Raises:
        PluginError: As :func:`get_method`, where it has to be imported.
    """
    entry = installed().get(name)
    if name not in _in_process and entry and not entry.problem and entry.module not in sys.modules:
        try:
            return source.read(entry)
        except source.UnknownSource:
            pass
    return get_method(name)


def declared_model_type(entry: PluginEntry) -> str | None:
    """The model_type of a method's configuration, as its source says it; None where that is not known without an import."""
    try:
        return source.read(entry).model_type
    except source.UnknownSource:
        return None


def _use(entry: PluginEntry) -> "type[Method]":
    cls = load(entry, "method")
    _check_class(cls, described(entry, "method"), "; its entry point is wrong")
    claim(cls.config_class.model_type, cls, entry.origin)
    _register_with_transformers(cls, entry.name)
    return cls


def _check_class(cls: object, what: str, hint: str = "") -> None:
    """Refuses what is not a method that can be trained.

    Raises:
        PluginError: Says what it is.
    """
    from .base import Method

    if not (isinstance(cls, type) and issubclass(cls, Method) and cls is not Method):
        kind = f"the class {cls.__qualname__}" if isinstance(cls, type) else f"an object of type {type(cls).__name__}"
        raise PluginError(f"{what} is {kind}, expected a subclass of hfcontrast.Method{hint}")
    if cls.__dict__.get("abstract", False):
        raise PluginError(
            f"{what} is the class {cls.__qualname__}, which is declared abstract, expected one that can be trained{hint}"
        )


def claim(model_type: str, cls: "type[Method]", origin: str) -> None:
    """Notes which class a model_type belongs to: a saved model is found again by it, so it can have only one.

    Args:
        model_type: The configuration's `model_type`.
        cls: The class that wants it.
        origin: The distribution and version that the class comes from.

    Raises:
        PluginError: Another class has it; from then on neither can be used, as loading would pick one by chance.
    """
    if clash := _clash(model_type, cls, origin):
        _contested[model_type] = clash
        _refuse_to_load(model_type, clash)
    if model_type in _contested:
        raise PluginError(_contested[model_type])
    _claims[model_type] = (cls, origin)  # the newest version of a class that a notebook defines again


def _clash(model_type: str, cls: "type[Method]", origin: str) -> str | None:
    other, other_origin = _claims.get(model_type, (cls, origin))
    if _same(other, cls):
        return None
    return (
        f"model_type '{model_type}' is claimed by {other.__module__}.{other.__qualname__} of {other_origin} and by "
        f"{cls.__module__}.{cls.__qualname__} of {origin}; rename it in one of them, or uninstall that one"
    )


def _same(first: type, second: type) -> bool:
    """Whether two classes are one, as far as its source goes: a cell of a notebook that is run again makes a new one."""
    return (first.__module__, first.__qualname__) == (second.__module__, second.__qualname__)


def _register_with_transformers(cls: "type[Method]", name: str) -> None:
    from transformers import AutoConfig, AutoModel

    try:
        AutoConfig.register(cls.config_class.model_type, cls.config_class, exist_ok=True)
        AutoModel.register(cls.config_class, cls, exist_ok=True)
    except ValueError as error:
        raise PluginError(
            f"transformers refuses method '{name}' ({cls.__module__}.{cls.__qualname__}): {error}"
        ) from error


def _refuse_to_load(model_type: str, reason: str) -> None:
    """Lets `AutoModel` say why a saved model is not loaded, instead of loading it as one of two classes."""
    from transformers import AutoConfig, PreTrainedConfig

    def refuse(*_, **__):
        raise PluginError(reason)

    body = {"model_type": model_type, "__init__": refuse, "from_dict": classmethod(refuse)}
    AutoConfig.register(model_type, type("ContestedConfig", (PreTrainedConfig,), body), exist_ok=True)


def register(cls: "type[Method]", name: str | None = None) -> "type[Method]":
    """Makes a class that no distribution declares usable by name in this process: for notebooks and tests.

    Defined again, as by a cell of a notebook that is run again, the new class takes the place of the old one by itself.

    Args:
        cls: The method; also works as a decorator.
        name: What recipes call it; None takes its model_type without `hfcontrast_`.

    Raises:
        PluginError: It is not a method, an installed method has the name, or another class the model_type.
    """
    _check_class(cls, f"what hfcontrast.register() is given ({cls!r})")
    name = name or cls.config_class.model_type.removeprefix("hfcontrast_")
    if (entry := declared(METHODS).get(name)) is not None:
        raise PluginError(f"the name '{name}' belongs to the installed {entry.value} of {entry.origin}; choose another")
    if clash := _clash(cls.config_class.model_type, cls, "this process"):  # those that were there first stay usable
        raise PluginError(clash)
    claim(cls.config_class.model_type, cls, "this process")
    _register_with_transformers(cls, name)
    _in_process[name] = cls
    return cls


def class_made(cls: "type[Method]") -> None:
    """Takes note of a class when it is made: it takes the place of the one that was registered under its name before."""
    for name, former in list(_in_process.items()):
        if _same(former, cls):
            register(cls, name)
    model_type = cls.config_class.model_type
    former, origin = _claims.get(model_type, (None, ""))
    if former is not None and _same(former, cls) and model_type not in _contested:
        claim(model_type, cls, origin)
        _register_with_transformers(cls, model_type)


def register_all() -> None:
    """Imports every installed method and registers it with transformers, so that `AutoModel` knows them.

    A method that cannot be used is one warning, and never hides the others.
    """
    problems = []
    for name, entry in installed().items():  # a look at all distributions is slow: one will do
        if name in _in_process:
            continue
        try:
            _use(entry)
        except StillImporting:  # found when it is asked for
            continue
        except PluginError as error:
            problems.append(str(error))
    for problem in problems:  # at the end: a warning can be an error, as in many test suites
        _warn(problem)


def register_model_type(model_type: str) -> None:
    """Registers the method whose saved models say this model_type with transformers; nothing where there is none.

    Imports the methods that have it, and those of which that is not known without an import.

    Args:
        model_type: The configuration's `model_type`, as in a saved `config.json`.

    Raises:
        PluginError: The method that has it cannot be used, or two have it.
    """
    problems: list[Any] = []
    own: list[Any] = []
    for name, entry in installed().items():
        if name in _in_process or entry.problem:
            continue
        known = declared_model_type(entry)
        if known not in (model_type, None):
            continue
        try:
            _use(entry)
        except StillImporting:  # found when it is asked for again
            continue
        except PluginError as error:
            (own if known or f"hfcontrast_{name}" == model_type else problems).append(str(error))
    if model_type in _contested:
        raise PluginError(_contested[model_type])
    if own and model_type not in _claims:
        raise PluginError(own[0])
    for problem in own + problems:
        _warn(problem)


def _warn(problem: str) -> None:
    if problem not in _warned:  # a run looks twice
        _warned.add(problem)
        warnings.warn(problem, stacklevel=3)
