"""Files that metadata names otherwise than they are called: without the ending, with another one, in capitals, or in other folders.

A name is taken for the one image that it can mean, and that no other row names; that is said, and so is how many names mean none.
"""

import os
from collections.abc import Callable, Iterable
from itertools import islice

import pyarrow
import pyarrow.compute
from datasets import Image

from hfcontrast.data.image_formats import ending_of, image_endings
from hfcontrast.data.sources.folders.listing import Listing
from hfcontrast.data.sources.folders.metadata import Metadata
from hfcontrast.errors import DataError

_LOOKED_AT = 100  # files that are not listed, of which it is looked whether they are there


def found_files(metadata: Metadata, listing: Listing, folder: str, place: str) -> tuple[Metadata, list[str]]:
    """The metadata with the paths of the files that its names mean, and what is to be said of it.

    Args:
        metadata: As it was read.
        listing: The images.
        folder: The folder of the metadata file within the listing, with a slash.
        place: The metadata file, for messages.

    Raises:
        DataError: It is the only one, and none of its names is a file.
    """
    sentences: list[str] = []
    table, top = metadata.table, listing.path(folder).removesuffix(listing.after)
    for column in table.column_names:
        if not isinstance(metadata.features[column], Image):
            continue
        names = table[column]
        there = pyarrow.compute.is_in(names, value_set=listing.files)
        missing = names.filter(pyarrow.compute.invert(there)).drop_null().unique().to_pylist()
        if not missing:
            continue
        meant = _meant(missing, names, listing, top)
        shown = [name.removeprefix(top) for name in missing if name not in meant]
        if meant:
            one, path = next(iter(meant.items()))
            sentences.append(
                f"{_count(len(meant))} in {place} {'is no file' if len(meant) == 1 else 'are no files'} there, and "
                f"{'is' if len(meant) == 1 else 'are'} taken for the only {'image' if len(meant) == 1 else 'images'} that can be meant, "
                f"such as {one.removeprefix(top)!r} for {path.removeprefix(top)}"
            )
            new = [meant.get(name, name) for name in names.to_pylist()]
            table = table.set_column(table.column_names.index(column), column, pyarrow.array(new, pyarrow.string()))
        if shown and not (listing.after == "" and _any_there(top, shown)):
            text = f"{_count(len(shown))} in {place} {'is no file' if len(shown) == 1 else 'are no files'} there, such as {shown[0]!r}"
            known = len(names.unique().drop_null())
            if len(shown) == known and column == metadata.key and len(listing.metadata) == 1:
                file = listing.files[0].as_py().removeprefix(top)
                raise DataError(f"{text}: the path of an image is expected, relative to the metadata, such as {file}")
            sentences.append(text)
    return metadata._replace(table=table), sentences


def _count(number: int) -> str:
    return f"{number:,} {'name' if number == 1 else 'names'}"


def _meant(missing: list[str], names: pyarrow.ChunkedArray, listing: Listing, top: str) -> dict[str, str]:
    """The images that names mean which are no files.

    Where no name is a file, images in other folders are meant, below that of the metadata, if most of the names are found so.
    """
    named = pyarrow.compute.is_in(listing.files, value_set=names)
    others = listing.files.filter(pyarrow.compute.invert(named)).to_pylist()
    others = [path for path in others if path.startswith(top)]
    meant = _unique(missing, others, _stem)
    if meant or pyarrow.compute.any(named).as_py():
        return meant
    moved = _unique(missing, others, lambda path: _stem(path.rpartition("/")[2]))
    return moved if len(moved) > len(missing) / 2 else {}


def _unique(missing: Iterable[str], others: Iterable[str], key: Callable[[str], str]) -> dict[str, str]:
    """For each name that means one image by a key, this image."""
    by_key: dict[str, str | None] = {}
    for path in others:
        by_key[key(path)] = None if key(path) in by_key else path
    return {name: path for name in missing if (path := by_key.get(key(name)))}


def _stem(path: str) -> str:
    """A path without the ending of an image, in small letters."""
    ending = ending_of(path.rpartition("/")[2])
    return (path[: -len(ending)] if ending in image_endings() else path).lower()


def _any_there(top: str, names: Iterable[str]) -> bool:
    """Whether names are files that are not listed, such as hidden ones."""
    return any(os.path.lexists(os.path.join(top, name)) for name in islice(names, _LOOKED_AT))
