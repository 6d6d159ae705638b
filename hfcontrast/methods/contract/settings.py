"""The settings of a method: its configuration's own fields, with their types and what the docstring says of them."""

import contextlib
import inspect
import json
import re
import types
import typing
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from .source import inherited_fields

if TYPE_CHECKING:
    from ..base import Method
    from .source import Declared


@dataclass(frozen=True)
class MethodField:
    """A setting of a method.

    Args:
        name: The key in the recipe's `method` section.
        type: Its type annotation.
        type_text: The type as text: `float | int`, `'mlp' | 'linear'`.
        default: Its value where the recipe does not set it.
        meaning: Its entry under `Args:` in the configuration's docstring; empty when there is none.
        validity: How the configuration checks it: the docstring of its `validate_NAME`; empty when there is none.
    """

    name: str
    type: Any
    type_text: str
    default: Any
    meaning: str
    validity: str


def method_fields(cls: "type[Method] | Declared") -> list[MethodField]:
    """Returns a method's own settings, in the order of its configuration class."""
    config, inherited = cls.config_class, inherited_fields()
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


def restored(config: type, values: dict[str, Any]) -> dict[str, Any]:
    """Restores the types of settings that JSON does not have: tuples, sets, keys that are numbers.

    Args:
        config: The configuration class.
        values: The contents of its file.
    """
    hints = _type_hints(config)
    found = dict(values)
    for field in fields(config):
        kind = hints.get(field.name)
        if kind is None or field.name == "backbone_config" or not isinstance(values.get(field.name), list | dict):
            continue
        with contextlib.suppress(PydanticUserError, PydanticUndefinedAnnotation, ValidationError, TypeError):
            found[field.name] = TypeAdapter(kind).validate_json(json.dumps(values[field.name]), strict=True)
    return found


def _type_hints(config: type) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for kind in reversed(config.__mro__):
        try:
            hints |= inspect.get_annotations(kind, eval_str=True)
        except (NameError, TypeError, AttributeError, SyntaxError):  # a name that only type checkers import
            hints |= inspect.get_annotations(kind)
    return hints


def type_text(kind: Any) -> str:
    """Returns a type annotation as text."""
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
