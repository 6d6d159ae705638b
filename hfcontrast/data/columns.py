"""Columns: which of a data set's columns hold the images, labels and captions, under names that are always the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from datasets import Dataset, Features, Image, IterableDataset, Value
from datasets.packaged_modules.webdataset.webdataset import WebDataset

from hfcontrast.data.captions import find_captions, holds_texts
from hfcontrast.data.labels import find_labels, missing_column, warn_of_negative, with_labels
from hfcontrast.errors import DataError

KEY = "__key__"  # the column of an archive's samples
IMAGE = "image"  # the name of a sample's image, independent of its extension
_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp")


@dataclass(frozen=True)
class Columns:
    """What is read of a row.

    Attributes:
        image: The column with the images; None takes ``image``, or else the first column of images.
        label: The column with the labels, whole numbers or class labels (of map-style sets also texts), or a field of one,
            ``COLUMN.FIELD``; None takes ``label``, or else the first column of class labels, or none.
        caption: The column with the captions (texts or lists of texts), or a field of one, ``COLUMN.FIELD``; None
            takes ``caption``, ``captions``, ``text``, ``texts`` or ``txt``.
        captioned: Whether captions are wanted at all; ``auto``: where there are some, or their column is named.
        further: Further columns to keep.
        tensors: Columns that are batched as tensors, for a method that takes them as arguments.
    """

    image: str | None = None
    label: str | None = None
    caption: str | None = None
    captioned: bool | Literal["auto"] = False
    further: Sequence[str] = ()
    tensors: Sequence[str] = ()

    @classmethod
    def of(cls, columns: "Columns | Sequence[str]", **keywords: Any) -> "Columns":
        """Columns as they are, or made of the names of further ones and the keywords of ``ColumnKeywords``."""
        if not isinstance(columns, Columns):
            named = {name.removesuffix("_column"): value for name, value in keywords.items()}
            return cls(further=tuple(columns), **named)
        if keywords:
            raise TypeError(f"{', '.join(keywords)} belongs to the Columns: give Columns alone, or keywords")
        return columns


class ColumnKeywords(TypedDict, total=False):
    """The fields of ``Columns``, but for the further columns, as keywords of a function."""

    image_column: str | None
    label_column: str | None
    caption_column: str | None
    captioned: bool | Literal["auto"]
    tensors: Sequence[str]


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
        description: A description of them, for messages.
        image_column: The column with the images; None looks for it.
        label_column: The column with the labels, or a field of one, ``COLUMN.FIELD``; None looks for it.
        columns: Further columns to keep.

    Returns:
        The rows, and which of the further columns are kept under their own names.

    Raises:
        DataError: A column does not exist or holds something else.
    """
    features = dataset.features
    if image_column not in features and (image_column or "").lower() in WebDataset.IMAGE_EXTENSIONS and KEY in features:
        image_column = IMAGE  # of an archive, whose images have this name for any extension
    for column in (image_column, *columns):
        if column is not None and column not in features:
            raise DataError(missing_column(column, list(features), description))
    image = image_column or _find_image(features, description)
    if not _may_hold_images(features[image]):
        raise DataError(f"column {image!r} of {description} holds no images but {features[image]}")
    label = find_labels(dataset, label_column, description)
    source = label[0] if label else None
    columns = tuple(column for column in dict.fromkeys(columns) if column != image and (column,) != label)
    wanted = [image, *([source] if label and source not in columns and source != image else []), *columns]
    if taken := {"image", "label"} & set(columns) - {image}:
        raise DataError(f"further columns of {description} must not be called {' or '.join(sorted(taken))}")
    dataset = dataset.select_columns(wanted)
    # First of all: a stream would decode every image, and end at a damaged one, where a column is renamed or made.
    for column in (image, *(column for column in columns if isinstance(features[column], Image))):
        dataset = dataset.cast_column(column, Image(decode=False))
    if image != "image":
        dataset = dataset.rename_column(image, "image")
    if label:
        dataset = with_labels(dataset, ("image", *label[1:]) if source == image else label, source in columns)
        warn_of_negative(dataset, description)
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
        raise DataError(missing_column(column, list(features), description))
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
