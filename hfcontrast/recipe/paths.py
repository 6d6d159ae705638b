"""The local paths of a recipe: which settings are paths, and the one place where they are expanded."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from ..paths import home_problem, local_path
from .checking import Problem
from .path_keys import PATHS, SOURCE_PATHS, KeyPath


class Expanded(NamedTuple):
    """A path of a recipe as it is used, and as it was written."""

    used: Any
    written: Any


def expand_paths(values: dict[str, Any]) -> dict[KeyPath, Expanded]:
    """Expands ``~`` in all paths of a recipe, and takes their names as the disk has them (see ``local_path``).

    Args:
        values: The recipe, which is changed.

    Returns:
        What has changed, by the path of its key.
    """
    changed: dict[KeyPath, Expanded] = {}
    for holder, where, base in holders(values):
        names = SOURCE_PATHS if where[0] in ("data", "eval") else [key[-1] for key in PATHS if key[:-1] == where]
        for name in names:
            if name in holder:
                folder = "" if name == "path" else base
                used = _each(holder[name], partial(local_path, base=folder))
                if used != holder[name]:
                    changed[(*where, name)] = Expanded(used, holder[name])
                    holder[name] = used
    return changed


def as_written(values: dict[str, Any], changed: dict[KeyPath, Expanded]) -> dict[str, Any]:
    """Puts paths back as they were written, so that a recipe that is saved is the one that was given.

    Args:
        values: The recipe, which is changed; a path that is another one now stays.
        changed: What :func:`expand_paths` has returned.
    """
    for path, (used, written) in changed.items():
        holder: Any = values
        for part in path[:-1]:
            if isinstance(holder, list):
                holder = holder[int(part)] if int(part) < len(holder) else None
            else:
                holder = holder.get(part) if isinstance(holder, dict) else None
        if isinstance(holder, dict) and holder.get(path[-1]) == used:
            holder[path[-1]] = written
    return values


def check_output(values: dict[str, Any]) -> list[Problem]:
    """Whether the output folder would be, or lie in, a folder that is called ``~``."""
    train = values.get("train")
    output = train.get("output") if isinstance(train, dict) else None
    problem = home_problem(output) if isinstance(output, str) else None
    return [Problem(("train", "output"), problem)] if problem else []


def holders(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], KeyPath, str]]:
    """The mappings that have paths, with the paths of their keys, and the folder that the paths are relative to."""
    for where in dict.fromkeys(path[:-1] for path in PATHS):
        holder: Any = values
        for part in where:
            holder = holder.get(part) if isinstance(holder, dict) else None
        if isinstance(holder, dict):
            yield holder, where, ""
    data = values.get("data")
    base = _folder(data) if isinstance(data, dict) else ""
    for name in ("data", "eval"):
        if isinstance(values.get(name), dict):
            yield from _sources(values[name], (name,), base)


def _sources(value: Any, where: KeyPath, base: str) -> Iterator[tuple[dict[str, Any], KeyPath, str]]:
    """Every mapping in a section that may say where rows come from."""
    if isinstance(value, dict):
        own = _folder(value) if value.get("path") else base
        yield value, where, own
        for name, inner in value.items():
            if name not in SOURCE_PATHS:
                yield from _sources(inner, (*where, name), own)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _sources(inner, (*where, str(number)), base)


def _folder(section: dict[str, Any]) -> str:
    """The folder that a source is, which its other paths are relative to; empty where it is none."""
    path = section.get("path")
    found = local_path(path) if isinstance(path, str) else ""
    return found if os.path.isdir(found) else ""


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _each(inner, change) for name, inner in value.items()}
    return [_each(inner, change) for inner in value] if isinstance(value, list) else value
