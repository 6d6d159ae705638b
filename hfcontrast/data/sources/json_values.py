"""Types of values as JSON has them, by examples, and values made to fit such a type."""

import json
from typing import Any

from datasets import Features, List, Value

NUMBERED = (
    "cls",
    "cls2",
    "index",
    "inx",
    "id",
    "count",
)  # extensions of members that hold a number, or a text as of a class
_INT64 = range(-(2**63), 2**63)


def feature_of(values: list[Any], numbered: bool = False) -> Any:
    """The feature of ``datasets`` that all values fit.

    What is missing everywhere, or has several types, is text; whole numbers and fractions together are float64.

    Args:
        values: Some of the values of a column or field.
        numbered: Whether texts that are all whole numbers are numbers.

    Returns:
        None where they are neither texts, numbers, truth values, bytes, lists nor mappings.
    """
    values = [value for value in values if value is not None]
    if any(not isinstance(value, bool | int | float | str | bytes | list | dict) for value in values):
        return None
    if numbered and values and all(_number(value) is not None for value in values):
        return Value("int64")
    types = {type(value) for value in values}
    if types == {dict} and (names := dict.fromkeys(name for value in values for name in value)):
        fields = {name: feature_of([value.get(name) for value in values]) for name in names}
        return None if None in fields.values() else fields
    if types == {list}:
        inner = feature_of([item for value in values for item in value])
        return None if inner is None else List(inner)
    if types == {bool}:
        return Value("bool")
    if types == {bytes}:
        return Value("binary")
    if types == {int} and all(value in _INT64 for value in values):
        return Value("int64")
    return Value("float64" if types and types <= {int, float} else "string")


def fit(value: Any, feature: Any, name: str, misfits: list[str]) -> Any:
    """A value as its feature has it; what does not fit is None.

    Args:
        value: The value.
        feature: Of ``feature_of``; others take any value.
        name: Of the column or field.
        misfits: Is given the names and values of what does not fit, as in ``json.label='cat'``.
    """
    if value is None:
        return None
    if isinstance(feature, dict | Features):
        if isinstance(value, dict):
            return {key: fit(value.get(key), inner, f"{name}.{key}", misfits) for key, inner in feature.items()}
    elif isinstance(feature, List):
        if isinstance(value, list):
            return [fit(item, feature.feature, name, misfits) for item in value]
        if not isinstance(value, bool | int | float | str | bytes | dict):
            return value
    elif not isinstance(feature, Value) or (fitted := _scalar(value, feature.dtype)) is value:
        return value
    elif fitted is not None:
        return fitted
    misfits.append(f"{name}={str(value)[:40]!r}")
    return None


def _scalar(value: Any, dtype: str) -> Any:
    """A value as one of some type; None where it is none."""
    if dtype == "string":
        return value if isinstance(value, str) else None if isinstance(value, bytes) else json.dumps(value, default=str)
    if dtype == "int64":
        return _number(value)
    if dtype == "float64":
        return float(value) if isinstance(value, bool | int | float) else None
    if dtype == "bool":
        return value if isinstance(value, bool) else None
    return value


def _number(value: Any) -> int | None:
    """A whole number, or a text of one."""
    try:
        number = (
            int(value) if isinstance(value, str | int) or (isinstance(value, float) and value.is_integer()) else None
        )
    except ValueError:
        return None
    return number if number in _INT64 else None
