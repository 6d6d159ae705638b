"""Reading recipes: YAML 1.2 values that remember where they were written, and overrides from the command line."""

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..errors import RecipeError
from ..paths import local_path
from .missing import missing, missing_shared
from .path_keys import KeyPath, is_path, path_given
from .renamed import new_path, note_override

COMMAND_LINE = "command line"
MAX_DEPTH = 100  # levels of nesting: far more than a recipe has, far fewer than exhaust Python's stack
MAX_VALUES = 100_000  # with every alias filled in: some lines of aliases to aliases stand for billions of values


@dataclass
class Document:
    """The values of a recipe and the place that each came from.

    Args:
        values: Nested mappings, lists and scalars, as written.
        source: What the recipe is called in messages: its file, as the user named it.
        places: From the path of a key to `FILE:LINE` or `command line`.
        overridden: The paths that the command line has set.
        renamed: The old names of keys that were given: for each the one that it has today, and where it was given.
        conflicts: What is wrong with those that were given under both names: the path of the old one, and a sentence.
    """

    values: dict[str, Any]
    source: str
    places: dict[KeyPath, str] = field(default_factory=dict)
    overridden: set[KeyPath] = field(default_factory=set)
    renamed: dict[str, tuple[str, str]] = field(default_factory=dict)
    conflicts: list[tuple[KeyPath, str]] = field(default_factory=list)

    def place(self, path: KeyPath) -> str:
        """Returns where the key at a path, or the nearest mapping around it, was written."""
        for length in range(len(path), 0, -1):
            if found := self.places.get(path[:length]):
                return found
        return self.source

    def as_written(self, path: KeyPath) -> KeyPath:
        """Returns the path of a key by the name that it was given by, which may be an old one."""
        for old, (new, place) in self.renamed.items():
            parts = tuple(new.split("."))
            if path[: len(parts)] == parts and self.places.get(parts, place) == place:
                return (*old.split("."), *path[len(parts) :])
        return path


class _Loader(yaml.SafeLoader):
    """Composes nodes with YAML 1.2's plain scalars: only true/false are booleans, 1e-4 is a number, dates are text."""

    yaml_implicit_resolvers: dict[str, Any] = {}
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(
                None, None, f"nested more than {MAX_DEPTH} levels deep", self.peek_event().start_mark
            )
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


_SCALARS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
NUMBER = re.compile(f"(?:{_SCALARS['float']}|{_SCALARS['int']})$")
for _name, _pattern in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), None)


# What a node of each form may be tagged as; others would be read as what they are not.
_KINDS = {yaml.MappingNode: ("map",), yaml.SequenceNode: ("seq",), yaml.ScalarNode: (*_SCALARS, "str")}
# Characters that no file name and no UTF-8 text can hold; YAML writes them as escapes.
_NO_TEXT = re.compile("[\\0\ud800-\udfff]")
_LARGEST = 2**63 - 1  # of a whole number in tensors, files and databases


def _scalar(kind: str, text: str) -> Any:
    if kind == "str":
        if _NO_TEXT.search(text):
            raise ValueError("it holds a character that no text can hold")
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        if len(text) > 30 or abs(number := int(text, 0) if text[:2] in ("0x", "0o") else int(text)) > _LARGEST:
            raise ValueError("whole numbers are below 2^63")
        return number
    special = text.lower().lstrip("+-")
    if special == ".nan":
        return math.nan
    return float(text.replace(".", "") if special == ".inf" else text)


class _Builder:
    """Turns a composed document into values, noting the line of every key."""

    def __init__(self, source: str, fixed_place: str | None = None):
        self.source, self.fixed_place = source, fixed_place
        self.places: dict[KeyPath, str] = {}
        self.values = 0

    def place(self, node: yaml.Node) -> str:
        return self.fixed_place or f"{self.source}:{node.start_mark.line + 1}"

    def build(self, node: yaml.Node, path: KeyPath, ancestors: tuple[int, ...] = ()) -> Any:
        if id(node) in ancestors:
            raise RecipeError(f"{self.place(node)}: {'.'.join(path)}: an alias that contains itself")
        self.values += 1
        if self.values > MAX_VALUES or len(ancestors) > MAX_DEPTH:
            limit = f"more than {MAX_VALUES:,} values" if self.values > MAX_VALUES else f"{MAX_DEPTH} levels and more"
            raise RecipeError(f"{self.place(node)}: {'.'.join(path[:1])}: {limit} once its aliases are filled in")
        inside = (*ancestors, id(node))
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind not in _KINDS[type(node)]:
            raise RecipeError(
                f"{self.place(node)}: {'.'.join(path) or 'recipe'}: the tag {node.tag!r} is not allowed in a recipe"
            )
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, inside)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, str(i)), inside) for i, item in enumerate(node.value)]
        if is_path(path) and node.style is None and (name := _with_comment(node)):
            return name
        try:
            return _scalar(kind, node.value)
        except ValueError as error:
            shown = f"{node.value[:40]!r}{'...' if len(node.value) > 40 else ''}"
            raise RecipeError(
                f"{self.place(node)}: {'.'.join(path)}: {shown} is not of type {kind} ({error})"
            ) from error

    def mapping(self, node: yaml.MappingNode, path: KeyPath, ancestors: tuple[int, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                shown = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                shown += f" with the tag {key_node.tag!r}" if key_node.tag.startswith("!") else ""
                raise RecipeError(
                    f"{self.place(key_node)}: keys are texts, got {shown}; put it in quotes to make it one"
                )
            key = (*path, key_node.value)
            if key_node.value in values:
                raise RecipeError(
                    f"{self.place(key_node)}: {'.'.join(key)}: given twice, first at {self.places[key]}; keep one"
                )
            self.places[key] = self.place(key_node)
            values[key_node.value] = self.build(value_node, key, ancestors)
        return values


def _with_comment(node: yaml.ScalarNode) -> str | None:
    """A value with the comment behind it, ``photos #1``, where there is a file or folder of this name."""
    mark = node.end_mark
    if mark.buffer is None:
        return None
    behind = mark.buffer[mark.pointer :].partition("\n")[0].rstrip(" \r\0")
    name = node.value + behind
    return name if behind.lstrip(" ").startswith("#") and os.path.lexists(local_path(name)) else None


def _parse(
    text: str, source: str, path: KeyPath = (), fixed_place: str | None = None
) -> tuple[Any, dict[KeyPath, str]]:
    builder = _Builder(source, fixed_place)
    loader = None
    try:
        loader = _Loader(text)  # looks for characters that YAML does not allow
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = fixed_place or (f"{source}:{mark.line + 1}" if mark else source)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        if "'\\t'" in problem:
            problem = "a tab; YAML is indented with spaces"
        raise RecipeError(f"{place}: not valid YAML: {problem}") from error
    finally:
        if loader is not None:
            loader.dispose()
    return (None if node is None else builder.build(node, path)), builder.places


def read_file(path: str | Path, shared: bool = False) -> Document:
    """Reads a recipe file.

    Args:
        path: The file.
        shared: Whether it is one with settings that recipes share.

    Raises:
        RecipeError: The file is missing (names the nearest one), is not text, or is not a YAML mapping.
    """
    file = Path(local_path(str(path)))
    try:
        if not file.is_file():
            raise RecipeError(missing_shared(file) if shared else missing(file))
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not a text file in UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise RecipeError(f"{path}: the recipe cannot be read: {error.strerror}") from error
    values, places = _parse(text, str(path))
    if not isinstance(values, dict):
        found = "it is empty" if values is None else f"it is {'a list' if isinstance(values, list) else 'one value'}"
        raise RecipeError(f"{path}: a recipe is a mapping with the sections method, backbone and data, but {found}")
    return Document(values, str(path), places)


def apply_overrides(document: Document, overrides: Iterable[str]) -> None:
    """Sets `key.path=value` settings in a document; values are YAML, nothing after the `=` means null.

    Raises:
        RecipeError: Overrides that are not of this form, or that reach into what is not a mapping; all at once.
    """
    problems = []
    for override in overrides:
        try:
            _apply(document, override)
        except RecipeError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError("\n".join(problems))


def _apply(document: Document, override: str) -> None:
    key, equals, text = override.partition("=")
    given = tuple(key.strip().split("."))
    path = new_path(given)
    if not equals or not all(path) or override.startswith("-"):
        raise RecipeError(
            f"{COMMAND_LINE}: {override!r}: expected key.path=value, e.g. optim.lr=0.1 or train.epochs=20"
        )
    if len(path) > MAX_DEPTH:
        raise RecipeError(f"{COMMAND_LINE}: {key[:40]}...: a key of {len(path)} levels, more than {MAX_DEPTH}")
    value, places = _value(path, text, override)
    note_override(document, given, path, COMMAND_LINE)
    target = document.values
    for depth, name in enumerate(path[:-1], start=1):
        inner = target.get(name)
        if inner is None:
            inner = target[name] = {}
            document.places[path[:depth]] = COMMAND_LINE
        elif not isinstance(inner, dict):
            whole, first = ".".join(path[:depth]), "model_type: vit, " if path[0] == "backbone" else ""
            raise RecipeError(
                f"{COMMAND_LINE}: {'.'.join(path)}: {whole} is {inner!r} and not a mapping with keys; "
                f"replace it as a whole, e.g. {whole}='{{{first}{path[depth]}: {text.strip()}}}'"
            )
        target = inner
    target[path[-1]] = value
    document.places = {at: place for at, place in document.places.items() if at[: len(path)] != path}
    document.places |= {path: COMMAND_LINE, **places}
    document.overridden |= {path, *places}


def _value(path: KeyPath, text: str, override: str) -> tuple[Any, dict[KeyPath, str]]:
    """The value of an override, and the places of the keys in it."""
    try:
        value, places = _parse(text, COMMAND_LINE, path, fixed_place=COMMAND_LINE)
    except RecipeError as error:
        if not is_path(path) or _NO_TEXT.search(text):
            shown = override if len(override) <= 200 else f"{override[:200]}..."
            raise RecipeError(f"{error}, in {shown!r}") from error
        value, places = None, {}
    if is_path(path):
        value = path_given(path, text, value)
    return value, places
