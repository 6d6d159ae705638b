"""Labels: which column or field holds them, and how they become whole numbers."""

import difflib
import logging
from functools import partial
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import ClassLabel, Dataset, Features, IterableDataset, Value

from hfcontrast.data.captions import captions_of
from hfcontrast.errors import DataError

logger = logging.getLogger(__name__)

_NAMES = ("label", "labels", "cls")
_TEXTS = ("string", "large_string")


def find_labels(dataset: Dataset | IterableDataset, column: str | None, description: str) -> tuple[str, ...] | None:
    """Where the labels are: the column, and below it the names of the fields, as in ``("json", "label")``.

    Args:
        dataset: The rows, their features known.
        column: ``COLUMN`` or ``COLUMN.FIELD``; None takes ``label``, or else the first column of class labels, ``labels`` or
            ``cls``. Texts found so are taken where the rows can be read by number and several share one, else left out with a warning.
        description: A description of the rows, for messages.

    Raises:
        DataError: The named column does not exist or holds no labels.
    """
    features = dataset.features
    if column is None:
        path = _look(features)
        if path is None and (named := next((name for name in _NAMES if name in features), None)):
            logger.warning(
                "column %r of %s is not used as labels: it holds %s, which is not a class label, whole number or text",
                named, description, getattr(features[named], "dtype", features[named]),
            )  # fmt: skip
        return None if path is None or _is_text(features[path[0]]) and not _are_classes(dataset, path[0]) else path
    path = (column,) if column in features else tuple(column.split("."))
    feature: Any = features
    for name in path:
        if not isinstance(feature, dict) or name not in feature:
            raise DataError(missing_column(column, list(features), description))
        feature = feature[name]
    if _is_text(feature) and isinstance(dataset, IterableDataset):
        raise DataError(
            f"column {column!r} of {description} holds texts, and a stream does not know beforehand which classes there are: use "
            "data.streaming=false, or whole numbers"
        )
    if not (isinstance(feature, ClassLabel) or _is_number(feature) or _is_text(feature)):
        raise DataError(
            f"column {column!r} of {description} holds no class labels, whole numbers or texts but {feature}"
        )
    return path


def with_labels(
    dataset: Dataset | IterableDataset, path: tuple[str, ...], keep: bool = False
) -> Dataset | IterableDataset:
    """The rows with whole numbers or class labels as ``label``.

    Args:
        dataset: The rows.
        path: Where the labels are, as ``find_labels`` says.
        keep: Whether the column that they are in stays too.
    """
    feature = dataset.features
    for name in path:
        feature = feature[name]
    if len(path) == 1 and not _is_text(feature):
        return dataset if path[0] == "label" else dataset.rename_column(path[0], "label")
    if isinstance(dataset, IterableDataset):
        features = Features({**dataset.features, "label": feature})
        dataset = dataset.map(partial(_lift, path), features=features)
        return dataset if keep else dataset.remove_columns(path[0])
    values = dataset.select_columns([path[0]]).with_format("arrow")[:][path[0]]
    for name in path[1:]:
        values = pyarrow.compute.struct_field(values, name)
    if not keep and path[0] != "image":
        dataset = dataset.remove_columns(path[0])
    if _is_text(feature):
        names, values = _classes(values)
        feature = ClassLabel(names=names)
    return dataset.add_column("label", values.to_pylist(), feature=feature)


def warn_of_negative(dataset: Dataset | IterableDataset, description: str) -> None:
    """Says how many labels below -1 there are, which like -1 stand for none; of a stream nobody knows beforehand."""
    if isinstance(dataset, IterableDataset) or isinstance(dataset.features["label"], ClassLabel):
        return
    labels = dataset.select_columns(["label"]).with_format("arrow")[:]["label"]
    if count := pyarrow.compute.sum(pyarrow.compute.less(labels.cast("int64"), -1)).as_py():
        logger.warning(
            "%d of %d labels of %s are below -1 and count as none: number the classes from 0, or name them by texts",
            count, len(labels), description,
        )  # fmt: skip


def _look(features: Features) -> tuple[str, ...] | None:
    if isinstance(features.get("label"), ClassLabel) or _is_number(features.get("label")):
        return ("label",)
    named = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
    numbered = [column for column in _NAMES if _is_number(features.get(column))]
    texts = [column for column in _NAMES if _is_text(features.get(column))]
    return next(((column,) for column in (*named, *numbered, *texts)), None)


def _are_classes(dataset: Dataset | IterableDataset, column: str) -> bool:
    """Whether texts can be taken for the names of classes; else says why not."""
    if isinstance(dataset, IterableDataset):
        logger.warning(
            "the texts in column %r are not used as labels: a stream does not know beforehand which classes there are; use "
            "data.streaming=false, or whole numbers",
            column,
        )
        return False
    count = len(set(dataset.unique(column)) - {None})
    if count > len(dataset) // 2:
        logger.warning(
            "the texts in column %r are not used as labels: %d rows have %d different ones; data.label_column=%s insists",
            column, len(dataset), count, column,
        )  # fmt: skip
        return False
    return True


def _classes(texts: pyarrow.ChunkedArray) -> tuple[list[str], pyarrow.Array]:
    """The names of the classes, sorted, and the number of each row's."""
    encoded = pyarrow.compute.dictionary_encode(texts.combine_chunks())
    names = encoded.dictionary.to_pylist()
    ranks = np.argsort(np.argsort(np.array(names, dtype=object))) if names else np.zeros(0, dtype=np.int64)
    return sorted(names), pyarrow.array(ranks, type=pyarrow.int64()).take(encoded.indices)


def _lift(path: tuple[str, ...], row: dict) -> dict:
    return {"label": captions_of(row, path)}


def _is_number(feature: object) -> bool:
    return isinstance(feature, Value) and (feature.dtype == "bool" or feature.dtype.startswith(("int", "uint")))


def _is_text(feature: object) -> bool:
    return isinstance(feature, Value) and feature.dtype in _TEXTS


def missing_column(column: str, names: list[str], description: str) -> str:
    near = difflib.get_close_matches(column, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{description} has no column {column!r}{hint}; its columns are {', '.join(names)}"
