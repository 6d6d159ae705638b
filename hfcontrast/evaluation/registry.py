"""The registry of evaluators: which are installed, the class behind a name, and the declaration of a figure by its key."""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, get_args

from pydantic import BaseModel

from ..entry_points import EVALUATORS, PluginEntry, declared, described, load, not_installed, undeclared
from ..errors import PluginError
from .protocol import Evaluator, Figure

_in_process: dict[str, type[Evaluator]] = {}
_made: dict[str, tuple[str, Evaluator]] = {}  # by name, with the entry point's value
_warned: set[str] = set()


def installed() -> dict[str, PluginEntry]:
    """Returns all installed evaluators by name, without importing any of them."""
    entries = declared(EVALUATORS)
    for name, cls in _in_process.items():
        entries[name] = PluginEntry(name, f"{cls.__module__}:{cls.__qualname__}")
    return dict(sorted(entries.items()))


def get_evaluator(name: str) -> Evaluator:
    """Returns an evaluator. Imports this one only.

    Raises:
        PluginError: It is not installed, fails to import, is not an evaluator, or its name is claimed twice.
    """
    entries = installed()
    if not entries:
        raise PluginError(
            "hfcontrast's own evaluators are not declared by the installed package, as its source was updated after it was installed: "
            "install it again (pip install -e . in its folder)"
        )
    if name not in entries:
        raise PluginError(undeclared(EVALUATORS, entries) or not_installed("evaluator", name, entries))
    return _use(entries[name])


def evaluators() -> dict[str, Evaluator]:
    """All evaluators that can be used, in the order of their columns. One that cannot is a warning, and never hides the others."""
    entries = installed()
    found, problems = [], [outdated] if (outdated := undeclared(EVALUATORS, entries)) else []
    for entry in entries.values():
        try:
            found.append(_use(entry))
        except PluginError as error:
            problems.append(str(error))
    for problem in problems:  # at the end: a warning can be an error, as in many test suites
        if problem not in _warned:
            _warned.add(problem)
            warnings.warn(problem, stacklevel=3)
    return {evaluator.name: evaluator for evaluator in sorted(found, key=lambda one: (one.order, one.name))}


def _use(entry: PluginEntry) -> Evaluator:
    if entry.name in _in_process:
        return _in_process[entry.name]()
    known, evaluator = _made.get(entry.name, ("", None))
    if evaluator is None or known != entry.value or entry.problem:
        cls = load(entry, "evaluator")
        what = described(entry, "evaluator")
        check_class(cls, what)
        if cls.name != entry.name:
            raise PluginError(f"{what} calls itself '{cls.name}': its `name` and its entry point must be the same")
        _made[entry.name] = entry.value, (evaluator := cls())
    return evaluator


def check_class(cls: Any, what: str) -> None:
    """Refuses a class that is not an evaluator, or that is declared wrongly.

    Args:
        cls: The class.
        what: How messages name it.

    Raises:
        PluginError: With the reason.
    """
    if not (isinstance(cls, type) and issubclass(cls, Evaluator) and cls is not Evaluator):
        raise PluginError(f"{what} is {cls!r}, expected a subclass of hfcontrast.evaluation.protocol.Evaluator")
    if missing := sorted(cls.__abstractmethods__):
        raise PluginError(f"{what} does not define {' and '.join(missing)}")
    if not isinstance(getattr(cls, "name", None), str) or not cls.name:
        raise PluginError(f"{what} has no `name`: expected what recipes call it, as text")
    _check_needs(cls.needs, what)
    _check_figures(getattr(cls, "figures", ()), what)
    if not (isinstance(cls.settings_class, type) and issubclass(cls.settings_class, BaseModel)):
        raise PluginError(f"{what}: its settings_class is {cls.settings_class!r}, expected a subclass of Settings")
    fields = cls.settings_class.model_fields
    if bare := [name for name, field in fields.items() if not field.description or field.is_required()]:
        raise PluginError(
            f"{what}: its setting {bare[0]!r} needs a default and a description: Field(20, description=...)"
        )


def _check_needs(needs: Any, what: str) -> None:
    if not isinstance(needs, set | frozenset) or not all(isinstance(need, str) for need in needs):
        raise PluginError(f"{what}: its `needs` is {needs!r}, expected a set of texts: frozenset({{LABELS}})")


def _check_figures(figures: Any, what: str) -> None:
    if isinstance(figures, Figure):
        raise PluginError(f"{what}: its `figures` is one Figure, expected a tuple of them: figures = (Figure(...),)")
    if not isinstance(figures, tuple | list) or not figures or not all(isinstance(one, Figure) for one in figures):
        raise PluginError(f"{what} has no `figures`: expected a tuple of Figure, what it measures")
    for figure in figures:
        if figure.kind not in (kinds := get_args(Figure.__annotations__["kind"])):
            expected = " or ".join(map(repr, kinds))
            raise PluginError(f"{what}: its figure {figure.name!r} is of kind {figure.kind!r}, expected {expected}")
    if sum(figure.headline for figure in figures) != 1:
        raise PluginError(f"{what} has {sum(figure.headline for figure in figures)} headline figures, expected one")
    if len({figure.name for figure in figures}) < len(figures):
        raise PluginError(f"{what} declares two figures of one name")


def check_name(cls: type[Evaluator], what: str) -> None:
    """Refuses the name of a built-in evaluator for another class: no package can declare it a second time.

    Args:
        cls: The class.
        what: How messages name it.

    Raises:
        PluginError: A built-in evaluator has the name.
    """
    entry = declared(EVALUATORS).get(cls.name)
    if entry is not None and entry.distribution == "hfcontrast" and entry.value != f"{cls.__module__}:{cls.__name__}":
        raise PluginError(f"{what}: its name '{cls.name}' is that of a built-in evaluator; choose another")


def register(cls: type[Evaluator]) -> type[Evaluator]:
    """Makes a class that no distribution declares usable by its name in this process: for notebooks and tests.

    Raises:
        PluginError: It is not an evaluator, or an installed one has the name.
    """
    check_class(cls, f"what register() is given ({cls!r})")
    if (entry := declared(EVALUATORS).get(cls.name)) is not None:
        raise PluginError(
            f"the name '{cls.name}' belongs to the installed {entry.value} of {entry.origin}; choose another"
        )
    _in_process[cls.name] = cls
    return cls


def code_of(evaluator: Evaluator) -> str:
    """The code of an evaluator: the distribution that it comes with, and its version."""
    entry = installed().get(evaluator.name)
    return f"{entry.origin if entry else 'this process'}, evaluator version {evaluator.version}"


def figures_of(keys: Iterable[str]) -> dict[str, tuple[Evaluator | None, Figure]]:
    """The evaluators of figures, and the figures' declarations, by their keys in ``result.json``; in the order of tables.

    A key that no installed evaluator declares has none: it is shown as a number under its own name.
    """
    keys, found = list(dict.fromkeys(keys)), {}
    for evaluator in evaluators().values():
        for figure in evaluator.figures:
            key = evaluator.key_of(figure)
            if key in keys and key not in found:
                found[key] = evaluator, figure
            elif key.endswith("*"):
                for one in keys:
                    if one.startswith(key[:-1]) and one not in found:
                        name = one[len(key) - 1 :]
                        found[one] = evaluator, replace(figure, title=figure.title.replace("*", name))
    unknown = {
        key: (None, Figure(key, key, "number", None, digits=4, shown_in=frozenset()))
        for key in keys
        if key not in found
    }
    return found | unknown
