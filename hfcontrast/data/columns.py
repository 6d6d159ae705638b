"""Columns: which of a data set's columns hold the images, labels and captions, under names that are always the same."""

import difflib

from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, Value

from hfcontrast.data.captions import find_captions, holds_texts
from hfcontrast.errors import DataError

_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp")
_LABEL_NAMES = ("label", "labels", "cls")


def select_columns(
    dataset: Dataset | IterableDataset,
    description: str,
    image_column: str | None,
    label_column: str | None,
    columns: tuple[str, ...],
) -> tuple[Dataset | IterableDataset, tuple[str, ...]]:
    """Only the columns that are wanted, under the names ``image`` and ``label``, images undecoded.

    Args:
        dataset: The rows, their features known.
        description: What they are, for messages.
        image_column: The column with the images; None looks for it.
        label_column: The column with the labels; None looks for it.
        columns: Further columns to keep.

    Returns:
        The rows, and which of the further columns are kept under their own names.

    Raises:
        DataError: A column does not exist or holds something else.
    """
    features = dataset.features
    for column in (image_column, label_column, *columns):
        if column is not None and column not in features:
            raise DataError(_missing(column, list(features), description))
    image = image_column or _find_image(features, description)
    label = label_column or _find_label(features)
    columns = tuple(column for column in dict.fromkeys(columns) if column not in (image, label))
    if not _may_hold_images(features[image]):
        raise DataError(f"column {image!r} of {description} holds no images but {features[image]}")
    dataset = dataset.select_columns([image, *([label] if label else []), *columns])
    new_names = {old: new for old, new in ((image, "image"), (label, "label")) if old and old != new}
    if taken := set(new_names.values()) & set(columns):
        raise DataError(f"further columns of {description} must not be called {' or '.join(sorted(taken))}")
    dataset = dataset.rename_columns(new_names) if new_names else dataset
    if label:
        dataset = _with_numeric_labels(dataset, label, description)
    undecoded = ["image", *(column for column in columns if isinstance(features[column], Image))]
    for column in undecoded:
        dataset = dataset.cast_column(column, Image(decode=False))
    return dataset, columns


def locate_captions(features: Features, column: str | None, description: str) -> tuple[str, ...]:
    """Where the captions are (see ``find_captions``).

    Raises:
        DataError: There are none, or the column holds no texts.
    """
    path = find_captions(features, column)
    if path is None and column is None:
        raise DataError(
            f"{description} has no column of captions; its columns are {', '.join(features)}: set data.caption_column"
        )
    if path is None:
        raise DataError(_missing(column, list(features), description))
    feature = features
    for name in path:
        feature = feature[name]
    if not holds_texts(feature):
        raise DataError(f"column {'.'.join(path)!r} of {description} holds no captions but {feature}")
    return path


def _find_image(features: Features, description: str) -> str:
    images = [column for column, feature in features.items() if isinstance(feature, Image)]
    if images:
        return "image" if "image" in images else images[0]
    for column in _IMAGE_NAMES:
        if column in features and _may_hold_images(features[column]):
            return column
    raise DataError(f"{description} has no column of images; its columns are {', '.join(features)}: set image_column")


def _may_hold_images(feature: object) -> bool:
    if isinstance(feature, Value):
        return feature.dtype in ("binary", "large_binary", "string", "large_string")
    return isinstance(feature, Image) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})


def _is_number(feature: object) -> bool:
    return isinstance(feature, Value) and (feature.dtype == "bool" or feature.dtype.startswith(("int", "uint")))


def _find_label(features: Features) -> str | None:
    if isinstance(features.get("label"), ClassLabel) or _is_number(features.get("label")):
        return "label"
    named = [column for column, feature in features.items() if isinstance(feature, ClassLabel)]
    numbered = [column for column in _LABEL_NAMES if _is_number(features.get(column))]
    return (named + numbered + [None])[0]


def _with_numeric_labels(
    dataset: Dataset | IterableDataset, column: str, description: str
) -> Dataset | IterableDataset:
    feature = dataset.features["label"]
    if isinstance(feature, ClassLabel) or _is_number(feature):
        return dataset
    if isinstance(feature, Value) and feature.dtype == "string" and isinstance(dataset, Dataset):
        return dataset.class_encode_column("label")
    raise DataError(f"column {column!r} of {description} holds no class labels or whole numbers but {feature}")


def _missing(column: str, names: list[str], description: str) -> str:
    near = difflib.get_close_matches(column, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{description} has no column {column!r}{hint}; its columns are {', '.join(names)}"
