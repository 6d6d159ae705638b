"""Images in fields of columns, ``COLUMN.FIELD``: made a column of their own, without decoding or copying them."""

from functools import partial
from typing import Any

import pyarrow.compute
from datasets import Dataset, DatasetInfo, Features, Image, IterableDataset, Value
from datasets.fingerprint import generate_random_fingerprint
from datasets.table import InMemoryTable

from hfcontrast.data.captions import captions_of


def may_hold_images(feature: object) -> bool:
    """Whether a column, or a field of one, can hold images: encoded bytes, names of files, or what ``datasets`` makes of an image."""
    if isinstance(feature, Value):
        return feature.dtype in ("binary", "large_binary", "string", "large_string")
    return isinstance(feature, Image) or (isinstance(feature, dict) and {"bytes"} <= set(feature) <= {"bytes", "path"})


def image_fields(features: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Where columns have images in fields: the column, and below it the names of the fields."""
    found = []
    for name, feature in features.items():
        path = (*above, name)
        is_image = isinstance(feature, Image) or (isinstance(feature, dict) and may_hold_images(feature))
        if is_image and above:
            found.append(path)
        elif isinstance(feature, dict) and not is_image:
            found += image_fields(feature, path)
    return found


def field_of(features: Features, column: str) -> tuple[tuple[str, ...], Any] | None:
    """The path of ``COLUMN.FIELD`` and what the field holds; None where there is no such field."""
    path, feature = tuple(column.split(".")), features
    for name in path:
        if not isinstance(feature, dict) or name not in feature:
            return None
        feature = feature[name]
    return path, feature


def with_image_field(dataset: Dataset | IterableDataset, path: tuple[str, ...]) -> Dataset | IterableDataset:
    """The rows with the images of a field in a column ``COLUMN.FIELD``, undecoded; the column that they are in stays.

    Args:
        dataset: The rows, their features known.
        path: The column and the names of the fields.
    """
    name = ".".join(path)
    features = _undecoded(dataset.features, path)
    if isinstance(dataset, IterableDataset):
        # First of all: a stream would decode every image where a column is made.
        dataset = dataset.cast_column(path[0], features[path[0]])
        return dataset.map(partial(_lift, path, name), features=Features({**features, name: Image(decode=False)}))
    table = dataset.with_format("arrow")[:]
    images = table[path[0]]
    for field in path[1:]:
        images = pyarrow.compute.struct_field(images, field)
    held: Any = dataset.features
    for field in path:
        held = held[field]
    info = DatasetInfo(features=Features({**features, name: held}))
    columns = {column: table[column] for column in table.column_names} | {name: images}
    return Dataset(InMemoryTable(pyarrow.table(columns)), info=info, fingerprint=generate_random_fingerprint())


def _lift(path: tuple[str, ...], name: str, row: dict) -> dict:
    value = captions_of(row, path)
    return {name: {"bytes": value, "path": None} if isinstance(value, bytes) else value}


def _undecoded(features: Any, path: tuple[str, ...]) -> Any:
    """The features with the images of a field as they are encoded."""
    if not path:
        return Image(decode=False) if isinstance(features, Image) else features
    return {**features, path[0]: _undecoded(features[path[0]], path[1:])}
