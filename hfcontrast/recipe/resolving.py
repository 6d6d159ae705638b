"""Checks and fills in what depends on a recipe's method and backbone, and reports its problems."""

import json
import sys
import warnings
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from ..errors import PluginError, RecipeError
from ..view import View
from .backbone import check_backbone, check_backbone_names
from .checking import (
    Problem,
    check_evaluators,
    check_method,
    find_method,
    own_settings,
    renamed_settings,
)
from .evaluated import check_built_in_data, readable_evaluators
from .reading import Document
from .renamed import note_settings
from .sections import MethodSection
from .views import check_recipe_views


def resolve(
    values: dict[str, Any], sections: dict[str, Any], problems: list[Problem], document: Document
) -> dict[str, Any]:
    """Checks what depends on other rooms, and fills in the method's settings; returns these and the views in full.

    First what is known without torch, in a second: mistakes are reported before the libraries are imported.

    Args:
        values: The recipe.
        sections: Its typed sections; the method's is completed.
        problems: Its problems so far; new ones are added. With any, the result is empty or in part.
        document: Where the recipe was read.
    """
    backbone = values.get("backbone")
    note_settings(document, renamed_settings(values.get("method")))
    problems += check_declared(values, document.overridden)
    if section := sections.get("eval") or readable_evaluators(values.get("eval"), problems):
        problems += check_evaluators(section)
    problems += check_built_in_data(values)
    if isinstance(backbone, (str, dict)):  # torch is imported for an architecture only where nothing else is wrong
        heavy = not problems or "torch" in sys.modules
        problems += check_backbone(backbone) if heavy else check_backbone_names(backbone)
    if problems:
        return {}
    resolved, more = _check_rooms(values, document)
    problems += more
    if "method" in sections and "method" in resolved:
        sections["method"] = MethodSection(name=sections["method"].name, **resolved["method"])
    return resolved


def check_declared(values: dict[str, Any], overridden: Iterable[tuple[str, ...]]) -> list[Problem]:
    """The problems with a recipe's method and views that are known without torch: from the source of the method.

    Args:
        values: The recipe.
        overridden: The paths of it that the command line sets.
    """
    from ..methods.registry import declaration

    method, views = values.get("method"), values.get("views") or {}
    if not isinstance(method, dict) or not isinstance(method.get("name"), str):
        return []
    try:
        declared = declaration(method["name"])
    except PluginError as error:
        return [Problem(("method", "name"), str(error))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are given when the method itself checks
            problems = check_method(declared, own_settings(declared, method, overridden))[1]
    except Exception:  # a validator that needs more than its source: the imported method is asked
        problems = []
    return problems + (check_recipe_views(declared, views)[1] if isinstance(views, dict) else [])


def _check_rooms(values: dict[str, Any], document: Document) -> tuple[dict[str, Any], list[Problem]]:
    """Checks what depends on the method; returns its settings and views in full, and the problems."""
    resolved: dict[str, Any] = {}
    problems: list[Problem] = []
    method, views = values.get("method"), values.get("views") or {}
    if isinstance(method, dict):
        cls, problems = find_method(method.get("name"))
        if cls is not None:
            note_settings(document, cls.config_class.renamed_settings)
            options = own_settings(cls, method, document.overridden)
            resolved["method"], more = check_method(cls, options)
            problems += more
        if cls is not None and isinstance(views, dict):
            found, more = check_recipe_views(cls, views)
            problems += more
            resolved["views"] = {view.name: _view_settings(view) for view in found}
    return resolved, problems


def _view_settings(view: View) -> dict[str, Any]:
    settings = json.loads(json.dumps(asdict(view)))
    return {name: value for name, value in settings.items() if name not in ("name", "key")}


def raise_problems(problems: list[Problem], document: Document) -> None:
    """Raises all problems of a recipe at once, if there are any.

    Raises:
        RecipeError: One a line, sorted by the line in the file, the command line last.
    """
    if not problems:
        return
    lines = {}  # sorted by the line in the file, that of shared settings after the recipe, the command line last
    for problem in problems:
        path = document.as_written(problem.path)
        place = document.place(path if path in document.places else problem.path)
        file, _, number = place.rpartition(":")
        order = (file != document.source, file, int(number)) if number.isdigit() else (True, "\U0010ffff", 0)
        lines[f"{place}: {'.'.join(part for part in path if part)}: {problem.text}"] = order
    raise RecipeError("\n".join(sorted(lines, key=lines.__getitem__)))
