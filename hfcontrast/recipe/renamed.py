"""Recipe keys that were renamed: the old ones keep working until version 0.3, each with one warning that says the new one."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..renamed import warn

if TYPE_CHECKING:
    from .reading import Document

# Old key -> new key, both with their section; a key stays at its depth below the top level.
RENAMED = {
    "eval.max_bank": "eval.max_train",
    "eval.max_queries": "eval.max_test",
}

KeyPath = tuple[str, ...]


def new_path(path: KeyPath) -> KeyPath:
    """The path that a key has today; a path within a renamed key too."""
    for old, new in RENAMED.items():
        parts = tuple(old.split("."))
        if path[: len(parts)] == parts:
            return (*new.split("."), *path[len(parts) :])
    return path


def rename_keys(document: "Document") -> None:
    """Replaces the old keys in a document's values, places and overridden paths; notes where both keys are given."""
    for old, new in RENAMED.items():
        *outer, name = before = tuple(old.split("."))
        *new_outer, new_name = after = tuple(new.split("."))
        holder = _mapping(document.values, outer)
        if holder is None or name not in holder:
            continue
        target = holder if outer == new_outer else _mapping(document.values, new_outer, make=True)
        if target is None:  # its section is not a mapping, which is an error of its own
            continue
        if new_name in target:
            del holder[name]
            document.conflicts.append((before, both_given(new)))
            continue
        _move(holder, name, target, new_name)
        document.places = {_moved(path, before, after): place for path, place in document.places.items()}
        document.overridden = {_moved(path, before, after) for path in document.overridden}
        document.renamed.setdefault(old, (new, document.place(after)))


def note_override(document: "Document", given: KeyPath, path: KeyPath, place: str) -> None:
    """Takes note of the key of an override, which may be an old one.

    Args:
        document: The recipe so far.
        given: The key as it was given.
        path: The one that it has today.
        place: Where it was given, for messages.
    """
    old = next((old for old in RENAMED if given != path and given[: old.count(".") + 1] == tuple(old.split("."))), None)
    other = next(
        (old for old, (_, at) in document.renamed.items() if at == place and new_path(tuple(old.split("."))) == path),
        None,
    )
    if (old and not other and path in document.overridden) or (other and not old):
        former = tuple((old or other or "").split("."))
        document.places[former] = place
        document.conflicts.append((former, both_given(".".join(path))))
    elif old:
        document.renamed[old] = (RENAMED[old], place)


def note_settings(document: "Document", renamed: Mapping[str, str]) -> None:
    """Takes note of the method's settings that are given by an old name.

    Args:
        document: The recipe.
        renamed: Old name -> new name of the method's settings.
    """
    for name, new in renamed.items():
        path = ("method", name)
        given = document.values["method"]
        if name in given and (new not in given or path in document.overridden):
            document.renamed.setdefault(".".join(path), (f"method.{new}", document.place(path)))


def warn_of_old_keys(document: "Document", stacklevel: int = 3) -> None:
    """Warns of each old key that a document had, once."""
    for old, (new, place) in document.renamed.items():
        warn(f"{place}: {old}", new, stacklevel + 1)


def renamed_field(name: str, fields: Collection[str]) -> str | None:
    """The field that an attribute of a section is today, with a warning where it was renamed; None where it was not."""
    for old, new in RENAMED.items():
        field = new.rpartition(".")[2]
        if old.rpartition(".")[2] == name and field in fields and name not in fields:
            warn(old, new, stacklevel=4)
            return field
    return None


def with_old_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of settings by section with the keys as they were called first: what fingerprints are made of, so that they stay."""
    found: dict[str, Any] = {}
    for name, values in settings.items():
        found[name] = dict(values) if isinstance(values, Mapping) else values
    for old, new in RENAMED.items():
        *outer, name = old.split(".")
        *new_outer, new_name = new.split(".")
        holder = _mapping(found, new_outer)
        if holder is not None and new_name in holder:
            target = holder if outer == new_outer else _mapping(found, outer, make=True)
            if target is not None:
                _move(holder, new_name, target, name)
    return found


def both_given(new: str) -> str:
    """The error where a key is given by its old name and by its new one."""
    return f"it is called {new} now, and both are given: keep {new}"


def _mapping(values: dict[str, Any], path: list[str], make: bool = False) -> dict[str, Any] | None:
    for name in path:
        if values.get(name) is None and make:
            values[name] = {}
        inner = values.get(name)
        if not isinstance(inner, dict):
            return None
        values = inner
    return values


def _move(holder: dict[str, Any], name: str, target: dict[str, Any], new_name: str) -> None:
    """Moves a value; within one mapping it keeps its place."""
    if holder is not target:
        target[new_name] = holder.pop(name)
        return
    items = [(new_name if key == name else key, value) for key, value in holder.items()]
    holder.clear()
    holder.update(items)


def _moved(path: KeyPath, before: KeyPath, after: KeyPath) -> KeyPath:
    return (*after, *path[len(before) :]) if path[: len(before)] == before else path
