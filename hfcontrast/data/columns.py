"""Columns: which of a data set's columns hold the images, labels and captions, under names that are always the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

from datasets import Dataset, Features, Image, IterableDataset
from datasets.packaged_modules.webdataset.webdataset import WebDataset

from hfcontrast.data.captions import find_captions, holds_texts
from hfcontrast.data.image_fields import field_of, image_fields, may_hold_images, with_image_field
from hfcontrast.data.label_numbers import LabelNumbers
from hfcontrast.data.label_values import described
from hfcontrast.data.labels import find_labels, missing_column, missing_field, with_labels
from hfcontrast.errors import DataError

KEY = "__key__"  # the column of an archive's samples
IMAGE = "image"  # the name of a sample's image, independent of its extension
_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp")


@dataclass(frozen=True)
class Columns:
    """What is read of a row.

    Attributes:
        image: The column with the images, or a field of one, ``COLUMN.FIELD``; None takes ``image``, or else the first column of images.
        label: The column with the labels (numbers without fractions, texts, truth values, one-hot lists or class labels), or a field of
            one, ``COLUMN.FIELD``; None takes ``label``, or else the first column of class labels, or none.
        caption: The column with the captions (texts or lists of texts), or a field of one, ``COLUMN.FIELD``; None
            takes ``caption``, ``captions``, ``text``, ``texts`` or ``txt``.
        captioned: Whether captions are wanted at all; ``auto``: where there are some, or their column is named.
        further: Further columns to keep.
        tensors: Columns that are batched as tensors, for a method that takes them as arguments.
        image_key: Which image of an archive's samples, where they have several: what its name ends in behind the key, as ``left.jpg``,
            or that without the ending.
    """

    image: str | None = None
    label: str | None = None
    caption: str | None = None
    captioned: bool | Literal["auto"] = False
    further: Sequence[str] = ()
    tensors: Sequence[str] = ()
    image_key: str | None = None

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
    image_key: str | None
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
) -> tuple[Dataset | IterableDataset, tuple[str, ...], LabelNumbers]:
    """Only the columns that are wanted, under the names ``image`` and ``label``, images undecoded.

    Args:
        dataset: The rows, their features known.
        description: A description of them, for messages.
        image_column: The column with the images; None looks for it.
        label_column: The column with the labels, or a field of one, ``COLUMN.FIELD``; None looks for it.
        columns: Further columns to keep.

    Returns:
        The rows, which of the further columns are kept under their own names, and the class numbers of the labels.

    Raises:
        DataError: A column does not exist or holds something else.
    """
    for column in columns:
        if column not in dataset.features:
            if (top := column.partition(".")[0]) in dataset.features:
                raise DataError(
                    f"{column!r} is a field of column {top!r} of {description}, and columns are kept as a whole: name {top!r}"
                )
            raise DataError(missing_column(column, list(dataset.features), description))
    image = image_column or _find_image(dataset.features, description)
    if image not in dataset.features:
        dataset = _with_field(dataset, image, description)
    features = dataset.features
    if not may_hold_images(features[image]):
        raise DataError(f"column {image!r} of {description} holds no images but {features[image]}")
    label = find_labels(dataset, label_column, description)
    path = label.path if label else ()
    source = path[0] if path else None
    columns = tuple(column for column in dict.fromkeys(columns) if column != image and (column,) != path)
    wanted = [image, *([source] if label and source not in columns and source != image else []), *columns]
    if taken := {"image", "label"} & set(columns) - {image}:
        raise DataError(f"further columns of {description} must not be called {' or '.join(sorted(taken))}")
    dataset = dataset.select_columns(wanted)
    # First of all: a stream would decode every image, and end at a damaged one, where a column is renamed or made.
    for column in (image, *(column for column in columns if isinstance(features[column], Image))):
        dataset = dataset.cast_column(column, Image(decode=False))
    if image != "image":
        dataset = dataset.rename_column(image, "image")
    numbers = LabelNumbers()
    if label:
        label = label._replace(path=("image", *path[1:])) if source == image else label
        dataset, numbers = with_labels(dataset, label, description, source in columns)
    return dataset, columns, numbers


def _with_field(dataset: Dataset | IterableDataset, image: str, description: str) -> Dataset | IterableDataset:
    """The rows with a column of the images in a field, ``COLUMN.FIELD``."""
    features = dataset.features
    found = field_of(features, image)
    if found is None:
        known = image.partition(".")[0] in features
        why = (
            missing_field(image, features, description) if known else missing_column(image, list(features), description)
        )
        raise DataError(why)
    path, feature = found
    if not may_hold_images(feature):
        raise DataError(f"field {image!r} of {description} holds no images but {feature}")
    return with_image_field(dataset, path)


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
        raise DataError(missing_field(column, features, description))
    feature = features
    for name in path:
        feature = feature[name]
    if not holds_texts(feature):
        raise DataError(f"column {'.'.join(path)!r} of {description} holds no captions but {feature}")
    return path


def in_archive(chosen: Columns, features: Features, description: str) -> Columns:
    """The columns that are meant of an archive's samples, whose names there are lower-case; of other data as they are.

    Args:
        chosen: As a user names them: images of any extension where only one has that name before it.
        features: All columns.
        description: A description of the rows, for messages.

    Raises:
        DataError: ``image_key`` is given without an archive, beside another ``image`` or names no image.
    """
    if KEY not in features:
        if chosen.image_key is not None:
            raise DataError(
                f"image_key chooses among the images of an archive's samples, and {description} is not an archive: set image_column to one of "
                f"its columns, {', '.join(features)}"
            )
        return chosen
    if None not in (chosen.image_key, chosen.image) and chosen.image_key != chosen.image:
        raise DataError(
            f"image_key is {chosen.image_key!r} and image_column {chosen.image!r}: of {description} give only one of them"
        )
    image, key = chosen.image, chosen.image_key or chosen.image
    if key is not None and key not in features:
        image = _image_of_key(key.lower().lstrip("."), features)
    if image is None and chosen.image_key is not None and key not in features:
        raise DataError(f"the samples of {description} have no image {key!r}; they have {', '.join(_images(features))}")
    label, caption = (_lower_case(name, features) for name in (chosen.label, chosen.caption))
    return replace(chosen, image=image or key, image_key=None, label=label, caption=caption)


def _image_of_key(key: str, features: Features) -> str | None:
    """The column of an image of an archive by its kind, with any extension, or by what stands before that."""
    stem, _, ending = key.rpartition(".")
    if ending in WebDataset.IMAGE_EXTENSIONS and not stem and IMAGE in features:
        return IMAGE
    images = _images(features)
    stems = {key} | ({stem} if stem and ending in WebDataset.IMAGE_EXTENSIONS else set())
    found = [name for name in images if name == key] or [name for name in images if name.rpartition(".")[0] in stems]
    return found[0] if len(found) == 1 else None


def _lower_case(name: str | None, features: Features) -> str | None:
    """``COLUMN`` or ``COLUMN.FIELD`` with the column in lower case, where only that exists."""
    column, dot, fields = (name or "").partition(".")
    known = name in features or column in features or column.lower() not in features
    return name if known else column.lower() + dot + fields


def _images(features: Features) -> list[str]:
    return [column for column, feature in features.items() if isinstance(feature, Image)]


def _find_image(features: Features, description: str) -> str:
    images = _images(features)
    if KEY in features and IMAGE not in images and len(images) > 1:
        raise DataError(
            f"the samples of {description} have several images, {', '.join(images)}: set image_key to the one that is meant"
        )
    if images:
        return "image" if "image" in images else images[0]
    for column in _IMAGE_NAMES:
        if column in features and may_hold_images(features[column]):
            return column
    fields = [".".join(path) for path in image_fields(features)]
    if len(fields) == 1:
        return fields[0]
    if fields:
        raise DataError(
            f"{description} has images in the fields {', '.join(fields)}: set image_column to the one that is meant"
        )
    named = next((column for column in _IMAGE_NAMES if column in features), None)
    why = "" if named is None else f": column {named!r} holds {described(features[named], named)}, not images"
    raise DataError(
        f"{description} has no column of images{why}; its columns are {', '.join(features)}: set image_column"
    )
