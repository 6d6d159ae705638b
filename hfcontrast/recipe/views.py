"""Checking the views of a recipe: changes to the method's views, by their names."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_type_hints

from ..view import View, check_views
from .checking import Problem, fits
from .wording import did_you_mean, mismatch, show

if TYPE_CHECKING:
    from ..methods.base import Method
    from ..methods.contract.source import Declared

VIEW_FIELDS = {name: kind for name, kind in get_type_hints(View).items() if name not in ("name", "key")}


def check_recipe_views(
    method: "type[Method] | Declared", views: dict[str, Any]
) -> tuple[tuple[View, ...], list[Problem]]:
    """Applies a recipe's changes to a method's views; returns the views, and the problems."""
    names, problems = ["all", *(view.name for view in method.views)], []
    changes: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name, wanted in views.items():
        if name not in changes:
            problems.append(Problem(("views", name), f"unknown view{did_you_mean(name, names)}"))
        elif wanted is not None and not isinstance(wanted, dict):
            problems.append(Problem(("views", name), f"expected a mapping such as {{size: 96}}, got {show(wanted)}"))
        else:
            changes[name], more = _view_changes(name, wanted or {})
            problems += more
    resolved = []
    for view in method.views:
        own = changes[view.name]
        try:
            resolved.append(replace(view, **{**changes["all"], **own}))
        except ValueError as error:
            found = re.fullmatch(r"view '.*?': ((\w+) is .*)", str(error))
            field, text = (found[2], found[1]) if found else ("", str(error))
            problems.append(Problem(("views", view.name if field in own else "all", field), text))
    try:
        check_views(tuple(resolved))
    except ValueError as error:
        problems.append(Problem(("views",), str(error)))
    return tuple(resolved), problems


def check_left_out(method: "type[Method]", views: Iterable[View]) -> list[Problem]:
    """The problems with views whose count is 0: batches would have no entry of their key, and the method needs it."""
    from ..methods.contract.arguments import required

    made = {view.key for view in views if view.count}
    needed = {*required(method.embed, 1), *required(method.objective, 2)} - made
    return [
        Problem(("views", view.name, "count"), "is 0, and the method needs this view: 1 or more")
        for view in views
        if view.key in needed
    ]


def _view_changes(view: str, wanted: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Returns the fields that are right, as the types of View, and the problems with the others."""
    changes, problems = {}, []
    for field, value in wanted.items():
        if field not in VIEW_FIELDS:
            problems.append(Problem(("views", view, field), f"unknown key{did_you_mean(field, VIEW_FIELDS)}"))
            continue
        right, converted = fits(VIEW_FIELDS[field], value)
        if right:
            changes[field] = converted
        else:
            problems.append(Problem(("views", view, field), mismatch(value, VIEW_FIELDS[field])))
    return changes, problems
