"""The rows of a split of a listing: paths of images, labels, and the columns of metadata files."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.compute
from datasets import ClassLabel, Dataset, DatasetInfo, Features, Image
from datasets.fingerprint import generate_random_fingerprint
from datasets.table import InMemoryTable

from hfcontrast.data.sources.folders.layout import Layout, split_named
from hfcontrast.data.sources.folders.listing import Listing
from hfcontrast.data.sources.folders.metadata import IMAGE, Metadata, read_metadata
from hfcontrast.data.sources.folders.named_files import found_files
from hfcontrast.data.sources.folders.partial_labels import complete_labels
from hfcontrast.data.sources.folders.repeated import first_rows, refuse_twice
from hfcontrast.errors import DataError

_LABEL = "label"
_SPLIT, _MOST_SPLITS = "split", 8
_LABELS = (_LABEL, "labels", "cls")  # columns of metadata that go before the folders


class Rows(NamedTuple):
    """The rows of a split.

    Attributes:
        dataset: Columns ``image``, ``label`` where there are classes, and those of the metadata; each image once.
        listed: The rows that metadata files have, of which several may be of one image, as for several captions; None where there are
            no metadata files.
        unlisted: How many images no metadata file has.
        sentences: What is to be said of them.
    """

    dataset: Dataset
    listed: Dataset | None = None
    unlisted: int = 0
    sentences: tuple[str, ...] = ()


def rows_of_split(listing: Listing, layout: Layout, name: str) -> Rows:
    """The rows of one split: those of the metadata files in their order, then all other images in the order of their paths.

    Raises:
        DataError: A metadata file cannot be read, or two name one image.
    """
    split = layout.splits[name]
    files = _taken(listing.files, split.rows)
    sentences: list[str] = []
    found = _metadata(listing, layout, name, files, sentences)
    if found is None:
        return Rows(
            _dataset({IMAGE: files}, Features({IMAGE: Image()}), split.labels, layout.classes),
            sentences=tuple(sentences),
        )
    table, features, key = found
    row = pyarrow.compute.index_in(table[key], value_set=files)
    unlisted = np.ones(len(files), dtype=bool)
    unlisted[row.drop_null().to_numpy()] = False
    further = files.filter(pyarrow.array(unlisted))
    listed = len(table)
    table = pyarrow.concat_tables([table, pyarrow.table({key: further})], promote_options="default")
    if values := _splits_in(table):
        told = f"column {_SPLIT} of the metadata of {listing.place} ({', '.join(values)}) makes no splits, all its rows are in {name}"
        sentences.append(
            f"{told}: put the images of each into a folder of that name, or name its files in data.data_files"
        )
    labels = None
    if split.labels is not None:
        numbers = row.fill_null(len(files)).to_numpy()
        labels = np.concatenate([np.append(split.labels, -1)[numbers], split.labels[unlisted]])
    if column := next((column for column in _LABELS if _may_be_labels(table, column)), None):
        completed, why = complete_labels(table[column], listed, labels, layout.classes)
        if why:
            whole = f"{len(table)} images of split {name} of {listing.place}"
            has = "has" if completed.null_count == 1 else "have"
            sentences.append(f"{completed.null_count} of {whole} {has} no label: column {column} of the {why}")
        table, labels = table.set_column(table.column_names.index(column), column, completed), None
    first = np.append(first_rows(table[key].slice(0, listed)), np.ones(len(further), dtype=bool))

    def dataset(rows: pyarrow.Table, of_rows: np.ndarray | None) -> Dataset:
        return _dataset({column: rows[column] for column in rows.column_names}, features, of_rows, layout.classes)

    if first.all():
        rows = dataset(table, labels)
        return Rows(rows, rows.select(range(listed)), len(further), tuple(sentences))
    more = len(first) - int(first.sum())
    sentences.append(
        f"{more} of {listed} rows in the metadata of split {name} of {listing.place} {'names' if more == 1 else 'name'} an image that an "
        "earlier row names: where captions are read they are further captions of it, else only the first row of each image is used"
    )
    rows = dataset(table.filter(pyarrow.array(first)), None if labels is None else labels[first])
    every = dataset(table.slice(0, listed), None if labels is None else labels[:listed])
    return Rows(rows, every, len(further), tuple(sentences))


def _taken(files: pyarrow.ChunkedArray, rows: np.ndarray) -> pyarrow.ChunkedArray:
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return files.slice(rows[0], len(rows))  # no copy
    return files.take(pyarrow.array(rows))


def _metadata(
    listing: Listing, layout: Layout, name: str, files: pyarrow.ChunkedArray, sentences: list[str]
) -> Metadata | None:
    """The metadata of a split: of the tables in its folders, and of its files in tables above all splits; adds what is to be said of it."""
    parts: list[Metadata] = []
    places: list[str] = []
    inside = {split: part.folders for split, part in layout.splits.items()}
    for within in listing.metadata:
        folder = within[: within.rfind("/") + 1]
        owners = [split for split, folders in inside.items() if folder.startswith(folders)]
        if owners and name not in owners:
            continue
        found, told = found_files(
            read_metadata(listing.path(within), folder, listing.path), listing, folder, listing.path(within)
        )
        sentences += told
        if not owners or len(owners) > 1:
            rows = pyarrow.compute.index_in(found.table[found.key], value_set=files)
            order = pyarrow.compute.sort_indices(rows).slice(0, len(rows) - rows.null_count)
            found = found._replace(table=found.table.take(order))
        if len(found.table):
            parts.append(found)
            places.append(listing.path(within))
    if not parts:
        return None
    if len({part.key for part in parts}) > 1:
        raise DataError(
            f"{' and '.join(places)} name their images by different columns: one name, file_name, is expected"
        )
    refuse_twice([part.table[part.key] for part in parts], places)
    features = Features({column: feature for part in reversed(parts) for column, feature in part.features.items()})
    try:
        table = pyarrow.concat_tables([part.table for part in parts], promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise DataError(f"the columns of {' and '.join(places)} do not fit together: {error}") from error
    return Metadata(table, features, parts[0].key)


def _splits_in(table: pyarrow.Table) -> list[str]:
    """The names of several splits that a column of metadata has; empty where there is no such column."""
    if _SPLIT not in table.column_names:
        return []
    values = table[_SPLIT].unique().drop_null().slice(0, _MOST_SPLITS).to_pylist()
    named = all(isinstance(value, str) and split_named(value) for value in values)
    return values if named and len(values) > 1 else []


def _may_be_labels(table: pyarrow.Table, column: str) -> bool:
    if column not in table.column_names:
        return False
    kind, types = table.schema.field(column).type, pyarrow.types
    texts = types.is_string(kind) or types.is_large_string(kind)
    return column == _LABEL or texts or types.is_integer(kind) or types.is_boolean(kind)


def _dataset(
    columns: dict[str, pyarrow.ChunkedArray], features: Features, labels: np.ndarray | None, classes: Sequence[str]
) -> Dataset:
    """The rows as ``datasets`` has them: paths as undecoded images, labels as class labels."""
    held = {}
    for column, values in columns.items():
        held[column] = features[column]
        if isinstance(features[column], Image):
            columns[column] = _as_images(values)
        elif features.arrow_schema.field(column).type != values.type:  # of several tables that differ
            held[column] = Features.from_arrow_schema(pyarrow.schema([(column, values.type)]))[column]
    if labels is not None:
        columns[_LABEL] = pyarrow.chunked_array([labels])
        held[_LABEL] = ClassLabel(names=list(classes))
    order = [IMAGE, _LABEL] if IMAGE in columns else []
    names = [*(name for name in order if name in columns), *(name for name in columns if name not in order)]
    table = InMemoryTable(pyarrow.table({name: columns[name] for name in names}))
    info = DatasetInfo(features=Features({name: held[name] for name in names}))
    return Dataset(table, info=info, fingerprint=generate_random_fingerprint())  # its own would hash every path


def _as_images(paths: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    chunks = []
    for chunk in paths.chunks:
        fields = [pyarrow.nulls(len(chunk), pyarrow.binary()), chunk]
        mask = chunk.is_null() if chunk.null_count else None
        chunks.append(pyarrow.StructArray.from_arrays(fields, names=["bytes", "path"], mask=mask))
    return pyarrow.chunked_array(chunks, type=Image.pa_type)
