"""Columns that a method takes beside images, labels and captions: checked, and stacked to tensors."""

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Array2D, Array3D, Array4D, Array5D, ClassLabel, Features, LargeList, List, Value
from torch import Tensor

from hfcontrast.errors import DataError


def check_tensor_columns(features: Features, names: Sequence[str], description: str) -> None:
    """Checks that columns exist and hold what can be a tensor: numbers, truth values, classes, or equal lists of these.

    Args:
        features: The columns of the data.
        names: The columns that a method takes as arguments.
        description: A description of the data, for messages.

    Raises:
        DataError: Names the columns that there are.
    """
    for name in names:
        if name not in features:
            near = difflib.get_close_matches(name, features, n=1)
            raise DataError(
                f"a step of the method takes {name!r}, which no batch has and {description} has no column of"
                f"{f' (did you mean {near[0]!r}?)' if near else ''}; its columns are {', '.join(features)}"
            )
        if not _is_numeric(features[name]):
            usable = [column for column, feature in features.items() if _is_numeric(feature)]
            raise DataError(
                f"a step of the method takes {name!r}, and that column of {description} holds {_kind(features[name])}, which "
                f"makes no tensor; columns of numbers are {', '.join(usable) or 'none'}"
            )


def _is_numeric(feature: Any) -> bool:
    if isinstance(feature, List | LargeList):
        return _is_numeric(feature.feature)
    if isinstance(feature, Value):
        return feature.dtype == "bool" or feature.dtype.startswith(("int", "uint", "float"))
    return isinstance(feature, ClassLabel | Array2D | Array3D | Array4D | Array5D)


def _kind(feature: Any) -> str:
    return f"{feature.dtype} values" if isinstance(feature, Value) else type(feature).__name__.lower()


def without_value(values: Sequence[Any], names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Why a row cannot be used, where a column that a method takes has no value in it; else None."""
    for name, value in zip(names, values, strict=True):
        if value is None and name in wanted:
            return f"column {name!r} has no value"
    return None


def stacked(name: str, values: list[Any]) -> Tensor:
    """The values of a batch as one tensor: float32, int64 or bool, (B, ...).

    Raises:
        DataError: They are not of one size.
    """
    try:
        return torch.tensor(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"column {name!r} cannot be stacked to a tensor, which takes values of one size in every row and none missing: {error}"
        ) from error
