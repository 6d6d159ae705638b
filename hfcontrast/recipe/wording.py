"""The wording of a recipe's errors: what was expected, what was found, and the nearest known name."""

import difflib
import json
import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_PLAIN = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}
_PLURAL = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts", "true or false": "true or false"}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that was probably meant, or None."""
    by_lower = {item.lower(): item for item in known}
    found = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Returns `; did you mean 'lr'?`, or where nothing is near, the given text or all known names."""
    known = sorted(known)
    if near := nearest(name, known):
        return f"; did you mean '{near}'?"
    return otherwise or (f"; known: {', '.join(known)}" if known else "; there is none to set")


def show(value: Any) -> str:
    """Returns a value as an error names it: `'64' (text)`, `true`, `null`."""
    if isinstance(value, str):
        return f"{value!r} (text)"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def expected(kind: Any, limits: Iterable[Any] = ()) -> str:
    """Returns a type in words: `a whole number of at least 1 or 'auto'`.

    Args:
        kind: A type annotation.
        limits: Bounds that hold for its numbers: the `annotated_types` objects of pydantic's field metadata.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        if said := next((item.description for item in kind.__metadata__ if getattr(item, "description", None)), None):
            return said
        own = [limit for item in kind.__metadata__ for limit in getattr(item, "metadata", [item])]
        return expected(arguments[0], [*limits, *own])
    if origin in (Union, types.UnionType):
        parts = [expected(part, limits) for part in arguments if part is not type(None)]
        parts += ["null"] if type(None) in arguments else []
        # `float | int` says the same as a number
        parts = [
            part for part in dict.fromkeys(parts) if not (part.startswith("a whole number") and float in arguments)
        ]
        return " or ".join(parts)
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(map(repr, arguments))
    if origin is list and arguments:
        return f"a list of {_many(arguments[0])}"
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)} {_many(arguments[0])}"
    if origin is tuple or kind is tuple:
        return f"a list of {_many(arguments[0])}" if arguments else "a list"
    plain = _PLAIN.get(origin or kind) or str(getattr(kind, "__name__", kind))
    return plain + _bounds(limits) if kind in (int, float) else plain


def _many(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    text = expected(kind)
    for singular, plural in _PLURAL.items():
        if text.startswith(singular):
            return plural + text[len(singular) :]
    return text


def _bounds(limits: Iterable[Any]) -> str:
    found = {
        name: getattr(limit, name) for limit in limits for name in ("gt", "ge", "lt", "le") if hasattr(limit, name)
    }
    if "ge" in found and "le" in found:
        return f" from {found['ge']} to {found['le']}"
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    text = " and ".join(f"{words[name]} {bound}" for name, bound in found.items())
    return f" {text}" if text else ""


def literals(kind: Any) -> list[str]:
    """Returns the texts that a type lists by name, wherever they stand in it."""
    if get_origin(kind) is Literal:
        return [item for item in get_args(kind) if isinstance(item, str)]
    return [name for part in get_args(kind) for name in literals(part)]


def mismatch(value: Any, kind: Any, limits: Iterable[Any] = ()) -> str:
    """Returns `expected a whole number, got '64' (text)`, with the nearest choice where there are choices."""
    names = literals(kind)
    items = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    wrong = [item for item in items if isinstance(item, str) and item not in names]
    near = next((found for item in wrong if (found := nearest(item, names))), None)
    got = repr(value) if isinstance(value, str) and names else show(value)
    return f"expected {expected(kind, limits)}, got {got}" + (f"; did you mean '{near}'?" if near else "")
