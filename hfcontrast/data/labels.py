"""Labels: which column or field holds them, and how they become whole numbers, class labels or, of a stream, texts."""

import difflib
import logging
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pyarrow.compute
from datasets import ClassLabel, Dataset, Features, IterableDataset, Value

from hfcontrast.data.captions import captions_of
from hfcontrast.data.label_numbers import LabelNumbers, NoLabel, numbers_with_negatives
from hfcontrast.data.label_values import (
    CONVERTED,
    Conversion,
    converted,
    described,
    kind_of,
    spelled_classes,
    values_of,
)
from hfcontrast.data.stream_errors import read_rows
from hfcontrast.errors import DataError

logger = logging.getLogger(__name__)

_NAMES = ("label", "labels", "cls")
_LIKE_LABELS = ("label", "class", "categor", "target")  # in the names of columns that may hold labels and are not taken
_LOOKED_AT = 100  # rows of a stream that decide whether a column holds labels
_WANTED = (
    "labels are numbers without fractions, texts, truth values, one-hot lists or class labels, of which each image has one: name another "
    "column, or a field of one as COLUMN.FIELD, in label_column"
)


class LabelColumn(NamedTuple):
    """Where labels are.

    Attributes:
        path: The column, and below it the names of the fields, as in ``("json", "label")``.
        kind: What it holds: ``classes``, ``numbers``, ``texts``, ``fractions``, ``lists`` or ``json``.
        named: Whether the user has named it.
    """

    path: tuple[str, ...]
    kind: str
    named: bool

    @property
    def name(self) -> str:
        """As users write it."""
        return ".".join(self.path)


def find_labels(dataset: Dataset | IterableDataset, column: str | None, description: str) -> LabelColumn | None:
    """Where the labels are.

    Args:
        dataset: The rows, their features known.
        column: ``COLUMN`` or ``COLUMN.FIELD``; None takes ``label``, or else the first column of class labels, ``labels`` or
            ``cls``. What is found so and makes no labels is left out with a warning: texts of which the rows, where they can be read by
            number, seldom share one, numbers with fractions, lists that are not one-hot.
        description: A description of the rows, for messages.

    Raises:
        DataError: The named column does not exist or holds no labels.
    """
    features = dataset.features
    if column is None:
        return _looked_for(dataset, description)
    path = (column,) if column in features else tuple(column.split("."))
    feature: Any = features
    for depth, name in enumerate(path):
        if kind_of(feature) == "json" and depth:
            return LabelColumn(path, "json", True)
        if not isinstance(feature, dict) or name not in feature:
            raise DataError(missing_field(column, features, description))
        feature = feature[name]
    kind = kind_of(feature)
    if kind is None:
        raise DataError(
            f"column {column!r} of {description} holds no class labels but {described(feature, column)}: {_WANTED}"
        )
    if kind == "nothing":
        logger.warning("column %r of %s holds no value: no image has a label", column, description)
        return None
    return LabelColumn(path, kind, True)


def with_labels(
    dataset: Dataset | IterableDataset, found: LabelColumn, description: str, keep: bool = False
) -> tuple[Dataset | IterableDataset, LabelNumbers]:
    """The rows with a column ``label`` of whole numbers or class labels (of streams also texts), and their class numbers.

    Args:
        dataset: The rows.
        found: Where the labels are, as ``find_labels`` says.
        description: A description of the rows, for messages.
        keep: Whether the column that they are in stays too.

    Raises:
        DataError: The values of a column that was named make no labels. One that was only found is left out with a warning.
    """
    stream = isinstance(dataset, IterableDataset)
    if len(found.path) == 1 and (found.kind in ("classes", "numbers") or (stream and found.kind == "texts")):
        dataset = dataset if found.path[0] == "label" else dataset.rename_column(found.path[0], "label")
    elif isinstance(dataset, IterableDataset):
        dataset = _with_stream_labels(dataset, found, description, keep)
    else:
        try:
            dataset, spelled = _with_column(dataset, found, description, keep)
            return dataset, replace(_numbers(dataset, description), spelled=spelled)
        except NoLabel as error:
            if found.named:
                raise
            logger.warning("%s; it is not used as labels", error)
            return dataset if keep or found.path == ("image",) else dataset.remove_columns(
                found.path[0]
            ), LabelNumbers()
    return dataset, _numbers(dataset, description)


def _with_column(dataset: Dataset, found: LabelColumn, description: str, keep: bool) -> tuple[Dataset, bool]:
    """The rows of a map-style set with their labels, and whether these are names that were made from texts."""
    feature, values = values_of(dataset, found.path)
    where = f"column {found.name!r} of {description}"
    if kind_of(feature) in CONVERTED:
        feature, values = converted(kind_of(feature), values, where)
    if not keep and found.path[0] != "image":
        dataset = dataset.remove_columns(found.path[0])
    spelled = kind_of(feature) == "texts"
    if spelled:
        names, values = spelled_classes(values)
        feature = ClassLabel(names=names)
    return dataset.add_column("label", values.to_pylist(), feature=feature), spelled


def _with_stream_labels(dataset: IterableDataset, found: LabelColumn, description: str, keep: bool) -> IterableDataset:
    feature: Any = dataset.features
    for name in found.path if found.kind != "json" else ():
        feature = feature[name]
    if found.kind in CONVERTED:
        feature = Value("string" if found.kind == "json" else "int64")
    where = f"column {found.name!r} of {description}"
    convert = Conversion(found.kind, where) if found.kind in CONVERTED else None
    lift = partial(_lift, found.path, convert)
    dataset = dataset.map(lift, features=Features({**dataset.features, "label": feature}))
    return dataset if keep or found.path[0] == "label" else dataset.remove_columns(found.path[0])


def _lift(path: tuple[str, ...], convert: Conversion | None, row: dict) -> dict:
    value = captions_of(row, path)
    return {"label": convert(value) if convert else value}


def _numbers(dataset: Dataset | IterableDataset, description: str) -> LabelNumbers:
    """The class numbers of a column ``label``."""
    feature = dataset.features["label"]
    if isinstance(feature, ClassLabel):
        return LabelNumbers(names=tuple(feature.names))
    if isinstance(dataset, IterableDataset):
        return LabelNumbers(texts=kind_of(feature) == "texts")
    numbers = numbers_with_negatives(_different(dataset, "label"))
    if numbers and any(name.startswith("-") for name in numbers):
        logger.warning(
            "%d labels of %s are taken for classes though some are negative (%s to %s); -1 beside labels from 0 stands for no label",
            len(numbers), description, next(iter(numbers)), next(reversed(numbers)),
        )  # fmt: skip
    return LabelNumbers(numbers=numbers)


def _looked_for(dataset: Dataset | IterableDataset, description: str) -> LabelColumn | None:
    features = dataset.features
    kinds = {column: kind_of(feature) for column, feature in features.items()}
    wanted = [("label", ("classes", "numbers"))] + [(column, ("classes",)) for column in features]
    wanted += [(column, (kind,)) for kind in ("numbers", "texts", *CONVERTED) for column in _NAMES]
    column = next((column for column, among in wanted if kinds.get(column) in among), None)
    if column is None:
        named = next((name for name in _NAMES if name in features), None)
        if named and kinds[named] == "nothing":
            logger.warning("column %r of %s holds no value: no image has a label", named, description)
        elif named:
            logger.warning(
                "column %r of %s is not used as labels: it holds %s, which is not a class label, whole number or text",
                named, description, described(features[named], named),
            )  # fmt: skip
        elif near := [name for name in features if kinds[name] and any(word in name.lower() for word in _LIKE_LABELS)]:
            logger.warning(
                "no column of %s is called label, and so it has no labels: data.label_column=%s takes those of column %r%s",
                description, near[0], near[0], f", others may be {', '.join(near[1:])}" if near[1:] else "",
            )  # fmt: skip
        return None
    found = LabelColumn((column,), str(kinds[column]), False)
    if isinstance(dataset, IterableDataset):
        return found if found.kind not in CONVERTED or _seem_labels(dataset, found, description) else None
    return found if found.kind != "texts" or _are_classes(dataset, column) else None


def _seem_labels(dataset: IterableDataset, found: LabelColumn, description: str) -> bool:
    """Whether the first rows of a stream have labels in a column; else says why not."""
    convert = Conversion(found.kind, f"column {found.name!r} of {description}")
    try:
        for row in read_rows(dataset.select_columns([found.path[0]]).take(_LOOKED_AT), description):
            convert(row[found.path[0]])
    except NoLabel as error:
        logger.warning("%s; it is not used as labels", error)
        return False
    return True


def _are_classes(dataset: Dataset, column: str) -> bool:
    """Whether texts can be taken for the names of classes; else says why not."""
    count = len(set(_different(dataset, column)) - {None})
    if count > len(dataset) // 2:
        logger.warning(
            "the texts in column %r are not used as labels: %d rows have %d different ones; data.label_column=%s insists",
            column, len(dataset), count, column,
        )  # fmt: skip
        return False
    return True


def texts_among(features: Features) -> str | None:
    """The column of texts that would have been looked at for labels; None where there is none."""
    return next((name for name in _NAMES if kind_of(features.get(name)) == "texts"), None)


def _different(dataset: Dataset, column: str) -> list[Any]:
    values = dataset.select_columns([column]).with_format("arrow")[:][column]
    return pyarrow.compute.unique(values).to_pylist()


def missing_field(column: str, features: Features, description: str) -> str:
    """That there is no such ``COLUMN.FIELD``, with the nearest of those at the place where it leads to nothing."""
    feature, path = features, column.split(".")
    for depth, name in enumerate(path):
        if not isinstance(feature, dict) or name not in feature:
            names = [*map(str, feature)] if isinstance(feature, dict) else []
            return missing_column(column, names, description, ".".join(path[:depth]))
        feature = feature[name]
    return missing_column(column, list(features), description)


def missing_column(column: str, names: list[str], description: str, within: str = "") -> str:
    """That there is no such column, or field ``within`` one, with the nearest of those that there are."""
    if within:
        field = column.removeprefix(f"{within}.").split(".")[0]
        near = [f"{within}.{name}" for name in difflib.get_close_matches(field, names, n=1)]
    else:
        near = difflib.get_close_matches(column, names, n=1) or difflib.get_close_matches(
            column.split(".")[0], names, n=1
        )
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    there = (
        f"the fields of {within!r} are"
        if within and names
        else f"{within!r} has no fields;"
        if within
        else "its columns are"
    )
    return f"{description} has no column {column!r}{hint}; {there} {', '.join(names)}".rstrip(" ;")
