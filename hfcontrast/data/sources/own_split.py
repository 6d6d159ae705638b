"""Splits that are read by themselves: ``datasets`` reads all splits with the columns, types and class labels of the first one."""

import glob
from collections.abc import Collection, Mapping, Sequence

import datasets
import pyarrow.parquet
from datasets import ClassLabel, DatasetBuilder, Features
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from hfcontrast.data.stream_errors import LOADING_ERRORS
from hfcontrast.errors import DataError
from hfcontrast.paths import is_address

_Names = Mapping[str, Sequence[str]]


def alone(builder: DatasetBuilder, names: Collection[str]) -> DatasetBuilder | None:
    """A builder that knows the files of some splits only; None where there are no others, or the files are of no packaged format."""
    files, kind = builder.config.data_files or {}, type(builder).__module__.rsplit(".", 1)[-1]
    if kind not in _PACKAGED_DATASETS_MODULES or not type(builder).__module__.startswith("datasets.packaged_modules."):
        return None
    if not set(names) < set(files):
        return None
    chosen = {name: [_literal(str(file)) for file in files[name]] for name in names}
    return datasets.load_dataset_builder(kind, data_files=chosen)


def with_own_labels(builder: DatasetBuilder, names: Collection[str]) -> DatasetBuilder:
    """A builder that reads some splits under their own class labels, where local parquet files have other ones in other splits.

    Raises:
        DataError: The files of these splits have different class labels.
    """
    if not type(builder).__module__.endswith(".parquet") or builder.config.data_files is None:
        return builder
    first: dict[str, tuple[str, _Names]] = {}
    for name, files in builder.config.data_files.items():
        for file in map(str, files if name in names else files[:1]):
            classes = None if is_address(file) else _classes(file)
            if classes is None:
                continue
            before, expected = first.setdefault("wanted" if name in names else name, (file, classes))
            if name in names and classes != expected:
                raise DataError(
                    f"the class labels of {file} are not those of {before}, and so their numbers stand for different classes: write both "
                    "with the same names in the same order, or read them as splits of their own"
                )
            if not classes and len(files) > 1:  # none in the first file: no order to compare
                break
    if "wanted" in first and any(classes != first["wanted"][1] for _, classes in first.values()):
        return alone(builder, names) or builder
    return builder


def _classes(file: str) -> _Names | None:
    """The class labels that a parquet file declares, by column; None where it cannot be read."""
    try:
        features = Features.from_arrow_schema(pyarrow.parquet.read_schema(file))
    except LOADING_ERRORS:  # which its reading says
        return None
    return {name: feature.names for name, feature in features.items() if isinstance(feature, ClassLabel)}


def _literal(file: str) -> str:
    return file if is_address(file) else glob.escape(file)
