"""Folders as img2dataset writes them: tars with the samples of a webdataset, each beside a table of its rows and a file of statistics."""

import glob
import logging
import os
from os import scandir

import pyarrow
import pyarrow.parquet

from hfcontrast.console import warn_once
from hfcontrast.data.sources.archive_trees import is_note
from hfcontrast.data.sources.folders import is_hidden
from hfcontrast.data.sources.source import Source
from hfcontrast.data.sources.unpacking import SAMPLES, content_of, stem_of

logger = logging.getLogger(__name__)

_TAR, _TABLE, _STATISTICS = ".tar", ".parquet", "_stats.json"


def tars_beside_tables(place: str) -> Source | None:
    """The tars of a folder as a webdataset, where they lie beside tables that have their rows but no images; None anywhere else.

    Args:
        place: The folder.
    """
    stems = _stems(place)
    if not stems or content_of(tar := _path(place, min(stems), _TAR)) != SAMPLES or stem_of(tar) != min(stems):
        return None
    if _has_images(_path(place, min(stems), _TABLE)):
        return None
    count = f"{len(stems)} {'tars' if len(stems) > 1 else 'tar'}"
    warn_once(
        logger,
        f"{place}: its {count} are read as a webdataset; the {_TABLE} files beside them, which have the same rows without images, are not used",
    )
    return Source("webdataset", data_files={"train": os.path.join(glob.escape(os.path.abspath(place)), f"*{_TAR}")})


def _path(place: str, stem: str, ending: str) -> str:
    return os.path.join(place, stem + ending)


def _stems(place: str) -> set[str]:
    """The names of the tars of a folder, without the ending; empty where a table lacks its tar, or where there are other files."""
    found: dict[str, set[str]] = {_TAR: set(), _TABLE: set(), _STATISTICS: set()}
    try:
        with scandir(place) as entries:  # to the first that is something else
            for entry in entries:
                if is_note(entry.name) or is_hidden(entry.name, entry.is_dir()):
                    continue
                ending = next((end for end in found if entry.name.endswith(end) and entry.is_file()), None)
                if ending is None:
                    return set()
                found[ending].add(entry.name.removesuffix(ending))
    except OSError:  # no folder, or one that may not be read
        return set()
    return found[_TAR] if found[_TABLE] and found[_TABLE] | found[_STATISTICS] <= found[_TAR] else set()


def _has_images(table: str) -> bool:
    """Whether a table has a column that can hold images: bytes, or fields of their own."""
    try:
        types = pyarrow.parquet.read_schema(table).types
    except (OSError, pyarrow.ArrowException):  # damaged, or none beside this tar
        return False
    return any(
        pyarrow.types.is_binary(one) or pyarrow.types.is_large_binary(one) or pyarrow.types.is_struct(one)
        for one in types
    )
