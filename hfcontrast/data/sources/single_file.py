"""A single file as the path of a data set: a table is opened by its ending, anything else is refused in one sentence."""

import os
from collections.abc import Iterator

from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

from hfcontrast.data.image_formats import ending_of, image_endings
from hfcontrast.data.sources.source import Source, each_pattern
from hfcontrast.errors import DataError
from hfcontrast.paths import is_address

_TABLES = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".arrow": "arrow"}


def as_table(source: Source) -> Source:
    """The source whose path is the file of a table as that format with this file; any other source as it is.

    Raises:
        DataError: The path is a file of another kind, or what should be a folder is a file or the other way round.
    """
    path = source.path
    if hasattr(path, "dataset"):
        return source
    _check_folders(source)
    if path in _PACKAGED_DATASETS_MODULES or not os.path.isfile(path):
        return source
    ending = ending_of(path)
    if ending in image_endings():
        raise DataError(f"data.path {path} is a single image: name the folder that the images are in")
    if ending not in _TABLES:
        if not path.startswith((".", os.sep)):  # the name of a data set of the Hub, perhaps
            return source
        raise DataError(
            f"data.path {path} is a file that is not opened as a data set: name a folder, an archive (zip, tar) or a table "
            f"({', '.join(_TABLES)})"
        )
    given = [name for name in ("name", "data_dir", "data_files", "revision") if getattr(source, name) is not None]
    if given:
        raise DataError(f"data.path {path} is a file, beside which data.{given[0]} says nothing: leave it out")
    return Source(_TABLES[ending], data_files={"train": [path]})


def _check_folders(source: Source) -> None:
    """Refuses a file where a folder is expected and a folder where files are, of formats and of local folders."""
    local = os.path.isdir(source.path)
    if not local and source.path not in _PACKAGED_DATASETS_MODULES:
        return
    base = os.path.join(source.path if local else "", source.data_dir or "")
    if source.data_dir is not None and os.path.isfile(base):
        raise DataError(f"data.data_dir {source.data_dir} is a file, not a folder: name the folder that it is in")
    for name in _names(source.data_files):
        if os.path.isdir(os.path.join(base, name)):
            raise DataError(
                f"data.data_files {name} is a folder, not a file: name it in data.data_dir, or its files by a pattern, {os.path.join(name, '*')}"
            )


def _names(data_files: str | list | dict | None) -> Iterator[str]:
    """The names in ``data_files`` that are not addresses."""
    found: list[str] = []

    def note(name: str) -> str:
        found.append(name)
        return name

    each_pattern(data_files, note)
    return (name for name in found if not is_address(name))
