"""Values of a label column: what kinds there are, and whole numbers or names of classes made of those that are neither."""

import json
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import ClassLabel, Dataset, Image, LargeList, List, Value
from datasets.features.features import Json

from hfcontrast.data.label_numbers import NoLabel, whole_number

_TEXTS = ("string", "large_string", "string_view")
CONVERTED = ("fractions", "lists", "json")  # kinds whose values are looked at, one by one
_WANTED = "a label is one class of an image: a whole number, a text, a truth value or a one-hot list"


def kind_of(feature: Any) -> str | None:
    """What a column holds that may be labels; None where it cannot be labels.

    Args:
        feature: Its feature.

    Returns:
        ``classes``, ``numbers``, ``texts``, ``fractions`` (floating point numbers, that may be whole), ``lists`` (that may be one-hot),
        ``json`` (values of several types) or ``nothing``.
    """
    if isinstance(feature, ClassLabel):
        return "classes"
    if isinstance(feature, Json):
        return "json"
    if isinstance(feature, List | LargeList):
        inner = kind_of(feature.feature)
        return "lists" if inner in ("numbers", "fractions") else None
    if not isinstance(feature, Value):
        return None
    if feature.dtype in _TEXTS:
        return "texts"
    if feature.dtype == "bool" or feature.dtype.startswith(("int", "uint")):
        return "numbers"
    if feature.dtype.startswith(("float", "decimal")):
        return "fractions"
    return "nothing" if feature.dtype == "null" else None


def described(feature: Any, column: str) -> str:
    """What a column holds, in words."""
    if isinstance(feature, dict):
        names = [*map(str, feature)]
        return f"the field{'s' * (len(names) > 1)} {', '.join(names)} (name one, as in {column}.{names[0]})"
    if isinstance(feature, Image):
        return "images"
    if isinstance(feature, List | LargeList):
        return f"lists of {described(feature.feature, column)}"
    if isinstance(feature, Value):
        return "no values" if feature.dtype == "null" else f"{feature.dtype} values"
    return "class labels" if isinstance(feature, ClassLabel) else f"{type(feature).__name__} values"


def values_of(dataset: Dataset, path: tuple[str, ...]) -> tuple[Any, pyarrow.Array]:
    """The feature and the values of a column, or of a field of one, of a map-style set."""
    feature: Any = dataset.features[path[0]]
    values = dataset.select_columns([path[0]]).with_format("arrow")[:][path[0]].combine_chunks()
    for depth, name in enumerate(path[1:], 1):
        if isinstance(feature, Json):
            values = pyarrow.array([_within(text, path[depth:]) for text in _texts(values)], pyarrow.string())
            break
        feature = feature[name]
        values = pyarrow.compute.struct_field(values, name)
    return feature, values


def spelled_classes(texts: pyarrow.Array) -> tuple[list[str], pyarrow.Array]:
    """The names of the classes, sorted, and the number of each row's; an empty text is no label."""
    blank = pyarrow.compute.equal(pyarrow.compute.utf8_trim_whitespace(texts.cast(pyarrow.large_string())), "")
    texts = pyarrow.compute.if_else(blank, None, texts)
    encoded = pyarrow.compute.dictionary_encode(texts)
    names = encoded.dictionary.to_pylist()
    ranks = np.argsort(np.argsort(np.array(names, dtype=object))) if names else np.zeros(0, dtype=np.int64)
    return sorted(names), pyarrow.array(ranks, type=pyarrow.int64()).take(encoded.indices)


def converted(kind: str | None, values: pyarrow.Array, where: str) -> tuple[Value, pyarrow.Array]:
    """Whole numbers, or texts, made of a column of another kind, and their feature.

    Args:
        kind: One of ``CONVERTED``.
        values: The column.
        where: What it is called in messages.

    Raises:
        NoLabel: A value makes no label.
    """
    if kind == "json":
        found = [
            _of_json(None if text is None else json.loads(text), f"{where}, row {row},")
            for row, text in enumerate(_texts(values))
        ]
        if all(one is None or isinstance(one, int) for one in found):
            return Value("int64"), pyarrow.array(found, pyarrow.int64())
        return Value("string"), pyarrow.array([None if one is None else str(one) for one in found], pyarrow.string())
    if kind == "lists":
        return Value("int64"), _positions(values, where)
    numbers = np.asarray(values.cast(pyarrow.float64()).fill_null(np.nan))
    wrong = ~np.isnan(numbers) & (numbers != np.trunc(numbers)) | np.isinf(numbers)
    if wrong.any():
        row = int(wrong.argmax())
        raise NoLabel(f"{where} holds numbers with fractions, such as {numbers[row]:g} in row {row}: {_WANTED}")
    whole = [None if np.isnan(number) else int(number) for number in numbers]
    return Value("int64"), pyarrow.array(whole, pyarrow.int64())


class Conversion:
    """Whole numbers, or of JSON texts, made of the values of another kind of column one by one; None for no label.

    Args:
        kind: One of ``CONVERTED``.
        where: What the column is called in messages.
    """

    def __init__(self, kind: str, where: str):
        self.kind, self.where = kind, where
        self._length: int | None = None  # of all lists

    def __call__(self, value: Any) -> int | str | None:
        """What one value makes.

        Raises:
            NoLabel: It makes no label.
        """
        if self.kind == "json":
            found = _of_json(value, self.where)
            return None if found is None else str(found)
        if self.kind == "fractions":
            return number_or_none(value, self.where)
        if value is not None:
            self._length = self._length or len(value)
            if len(value) != self._length:
                raise _different_lengths(self.where, self._length, len(value))
        return _positions(pyarrow.array([value], pyarrow.list_(pyarrow.float64())), self.where)[0].as_py()


def number_or_none(value: Any, where: str) -> int | None:
    """A whole number, or None for no value.

    Raises:
        NoLabel: It has a fraction.
    """
    try:
        return whole_number(value)
    except NoLabel as error:
        raise NoLabel(f"{where} holds numbers with fractions, such as {value}: {_WANTED}") from error


def _positions(lists: pyarrow.Array, where: str) -> pyarrow.Array:
    """The place of the one in each of many one-hot lists; null where there is none."""
    lengths = np.asarray(pyarrow.compute.list_value_length(lists).drop_null())
    if not len(lengths):
        return pyarrow.nulls(len(lists), pyarrow.int64())
    if (lengths != lengths[0]).any():
        raise _different_lengths(where, lengths.min(), lengths.max())
    there = np.asarray(lists.is_valid())
    entries = lists.filter(pyarrow.array(there)).flatten().cast(pyarrow.float64()).fill_null(np.nan)
    table = np.asarray(entries).reshape(len(lengths), lengths[0])
    wrong = (~np.isin(table, (0, 1))).any(axis=1) | (table.sum(axis=1) > 1) | (lengths[0] < 2)
    if wrong.any():
        row = int(np.flatnonzero(there)[wrong.argmax()])
        example = np.array2string(table[wrong.argmax()][:8], separator=", ", formatter={"float_kind": "{:g}".format})
        raise NoLabel(f"{where} holds lists that are not one-hot, such as {example} in row {row}: {_WANTED}")
    places = np.where(table.any(axis=1), table.argmax(axis=1), -1)
    found = np.full(len(lists), -1)
    found[there] = places
    return pyarrow.array(found, pyarrow.int64(), mask=found < 0)


def _different_lengths(where: str, *lengths: int) -> NoLabel:
    few, many = sorted(lengths)
    return NoLabel(
        f"{where} holds lists of different lengths ({few} and {many} entries), which are not one-hot: {_WANTED}"
    )


def _of_json(value: Any, where: str) -> int | str | None:
    """A label that JSON gives: a whole number, a text, or None."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict | list):
        raise NoLabel(
            f"{where} holds {'fields' if isinstance(value, dict) else 'lists'} beside other values: {_WANTED}"
        )
    return number_or_none(value, where)


def _texts(values: pyarrow.Array) -> list[str | None]:
    return (values.storage if isinstance(values, pyarrow.ExtensionArray) else values).to_pylist()


def _within(text: str | None, path: tuple[str, ...]) -> str | None:
    """The JSON of what a path leads to; None where something on the way is missing."""
    value = None if text is None else json.loads(text)
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return None if value is None else json.dumps(value)
