"""Trees of archives: which folder each archive below a folder stands for, and one folder in the cache with the files of all of them.

An archive is a class (``cat.zip``, ``dog.zip``), a split (``train.zip``, ``test.zip``), or, where each has class folders itself, a part of one set, as if all were
unpacked in one place; so are those in subfolders (``train/cat.zip``). ``metadata`` files beside archives stay beside what was in them.
"""

import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import scandir
from pathlib import Path
from types import MappingProxyType

from hfcontrast.console import warn_once
from hfcontrast.data.sources.folders import is_hidden
from hfcontrast.data.sources.folders.layout import split_named
from hfcontrast.data.sources.folders.listing import METADATA
from hfcontrast.data.sources.folders.metadata import read_metadata
from hfcontrast.data.sources.unpacking import (
    IMAGES,
    content_of,
    has_class_folders,
    in_cache,
    is_archive,
    stem_of,
    unpack,
)
from hfcontrast.errors import DataError

logger = logging.getLogger(__name__)

_NAMED = 5  # archives at most in a sentence
_DEPTH = 3  # folders in folders


@dataclass(frozen=True)
class Tree:
    """Archives of images, and what they stand for.

    Attributes:
        place: The folder that they are in, for messages.
        folders: The folder of the tree that each is unpacked into, with its slash: ``""`` for the tree itself, or ``train/cat/``.
        metadata: Paths of metadata files, by those in the tree.
    """

    place: str
    folders: dict[str, str]
    metadata: dict[str, str]


def tree_of(place: str, endings: tuple[str, ...]) -> Tree | None:
    """The archives in a folder and in its subfolders; None where there are other files, or archives of something else than images.

    Args:
        place: The folder.
        endings: The endings of archives that are taken.

    Raises:
        DataError: It is ambiguous what they stand for, or one cannot be read.
    """
    found: dict[str, list[str]] = {}
    metadata: dict[str, str] = {}
    return tree_of_files(place, found, endings, metadata) if _collect(place, "", found, metadata) else None


def tree_of_files(
    place: str,
    found: dict[str, list[str]],
    endings: tuple[str, ...],
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Tree | None:
    """As ``tree_of``, of archives that are named.

    Args:
        place: Where they are, for messages.
        found: The archives by the folders of the tree that they are in, with a slash.
        endings: The endings of archives that are taken.
        metadata: Paths of metadata files, by those in the tree.

    Raises:
        DataError: It is ambiguous what they stand for, or one cannot be read.
    """
    archives = [archive for several in found.values() for archive in several]
    if not all(archive.lower().endswith(endings) and content_of(archive) == IMAGES for archive in archives):
        return None
    folders: dict[str, str] = {}
    for folder, several in sorted(found.items()):
        beside = [path for within, path in metadata.items() if within.rpartition("/")[0] == folder.rstrip("/")]
        folders |= _folders(os.path.join(place, folder).rstrip("/"), folder, sorted(several), beside)
    zips = all(archive.lower().endswith(".zip") for archive in archives)
    if not metadata and zips and set(folders.values()) == {""} and not has_class_folders(archives[0]):
        return None  # numbered parts, whose order ``datasets`` has always given
    return Tree(place, folders, dict(metadata)) if folders else None


def holds_tars_of_images(place: str) -> bool:
    """Whether a folder has tars only, and the first of them holds images that are no samples."""
    found: dict[str, list[str]] = {}
    archives = sum(found.values(), []) if _collect(place, "", found, {}) else []
    tars = [archive for archive in archives if not archive.lower().endswith(".zip")]
    return bool(tars) and len(tars) == len(archives) and content_of(min(tars)) == IMAGES


def _collect(place: str, folder: str, found: dict[str, list[str]], metadata: dict[str, str]) -> bool:
    """Collects archives by their folders, and metadata files; False at the first file that is neither."""
    try:
        with scandir(os.path.join(place, folder)) as entries:
            for entry in entries:
                within = folder + entry.name
                if is_note(entry.name) or is_hidden(entry.name, entry.is_dir()):
                    continue
                if entry.is_dir():
                    if within.count("/") == _DEPTH or not _collect(place, f"{within}/", found, metadata):
                        return False
                elif entry.name in METADATA:
                    metadata[within] = os.path.abspath(entry.path)
                elif is_archive(entry.path):
                    found.setdefault(folder, []).append(entry.path)
                else:
                    return False
    except OSError:  # no folder, or one that may not be read
        return False
    return True


def _folders(place: str, folder: str, archives: Sequence[str], metadata: Sequence[str]) -> dict[str, str]:
    """The folder of the tree for each archive of one folder."""
    stems = [stem_of(archive) for archive in archives]
    own = {archive: f"{folder}{stem}/" for archive, stem in zip(archives, stems, strict=True)}
    together = dict.fromkeys(archives, folder)
    if len(set(stems)) < len(stems):
        raise DataError(f"{place} has several archives of one name, {_told(stems)}: rename them, or unpack them")
    if len(archives) > 1 and all(map(split_named, stems)):
        return own
    names = [name for path in metadata for name in _first_names(path)]
    if names:
        return own if any(name.startswith(tuple(f"{stem}/" for stem in stems)) for name in names) else together
    if len(archives) == 1:
        return together
    nested = [has_class_folders(archive) for archive in archives]
    if all(nested):
        warn_once(
            logger,
            f"the archives of {place}, {_told(stems)}, are taken for parts of one set, which has the folders of all of them",
        )
        return together
    if any(nested):
        raise DataError(
            f"{stems[nested.index(True)]} of the archives of {place} has class folders and {stems[nested.index(False)]} has none, so that they "
            "are neither the classes nor parts of one set: unpack them into the folders that are meant"
        )
    return together if are_parts(place, stems) else own


def are_parts(place: str, names: Sequence[str]) -> bool:
    """Whether archives without class folders are numbered parts of one set, rather than one a class; says which.

    Args:
        place: Their folder.
        names: Their names, without the endings.
    """
    parts = _are_numbered(names)
    if parts:
        sentence = f"the archives of {place}, {_told(names)}, are taken for numbered parts of one set: their images have no labels"
    else:
        sentence = f"the archives of {place} are its classes: {_told(names)}"
    warn_once(logger, sentence)
    return parts


def is_note(name: str) -> bool:
    """Whether a file beside archives is a readme or a license."""
    return name.lower().startswith(("readme", "license"))


def unpack_tree(tree: Tree) -> str:
    """Unpacks the archives of a tree into the cache, and returns the folder that has the files of all of them.

    Raises:
        DataError: An archive cannot be unpacked, or two have a file of the same name that metadata is about.
    """
    unpacked = {archive: unpack(archive) for archive in tree.folders}
    states = [
        (within, path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for within, path in tree.metadata.items()
    ]
    key = repr((sorted((unpacked[archive], folder) for archive, folder in tree.folders.items()), sorted(states)))
    return in_cache(tree.place, "tree", key, functools.partial(_fill, tree, unpacked))


def _fill(tree: Tree, unpacked: dict[str, str], unfinished: Path) -> None:
    """Links the files of all archives, and of metadata, to where they are in the tree."""
    described, several = bool(tree.metadata), Counter(tree.folders.values())
    inside = {archive: list(_files(folder)) for archive, folder in unpacked.items()}
    described |= any(os.path.basename(file) in METADATA for files in inside.values() for file in files)
    for archive, folder in tree.folders.items():
        shared = several[folder] > 1
        above = _above(inside[archive]) if shared and not described else ""
        for file in inside[archive]:
            target = unfinished / folder / file.removeprefix(above)
            if target.exists():
                if described:
                    raise DataError(
                        f"two archives of {tree.place} have a file {folder}{file}, and metadata says which files there are: unpack them"
                    )
                target = target.with_name(f"{stem_of(archive)}-{target.name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(os.path.join(unpacked[archive], file), target)
    for within, path in tree.metadata.items():
        (unfinished / within).parent.mkdir(parents=True, exist_ok=True)
        if (unfinished / within).exists():
            raise DataError(f"{path} lies beside an archive that has a file of that name: keep one of them")
        (unfinished / within).symlink_to(path)


def _files(folder: str) -> Iterable[str]:
    """The files below a folder, relative to it."""
    for path, _, names in os.walk(folder):
        within = os.path.relpath(path, folder)
        yield from (name if within == "." else os.path.join(within, name) for name in sorted(names))


def _above(files: Sequence[str]) -> str:
    """The folders that hold everything in an archive, with a slash, down to one that has the name of a split."""
    common = os.path.commonpath([os.path.dirname(file) for file in files])
    above = ""
    for part in common.split("/") if common else []:
        if split_named(part):
            break
        above += f"{part}/"
    return above


def _first_names(path: str) -> list[str]:
    """Names of files in a metadata file, some of the first."""
    table, _, key = read_metadata(path, "", lambda name: name)
    return [name for name in table[key].slice(0, _NAMED).to_pylist() if name]


def _told(names: Sequence[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:_NAMED]) + " and more" * (len(names) > _NAMED)


def _are_numbered(names: Sequence[str]) -> bool:
    """Whether names differ in a number only, which counts on, as those of parts do, but not as WordNet's n01440764 does."""
    if len({re.sub(r"\d+", "0", name) for name in names}) > 1:
        return False
    numbers = sorted(tuple(map(int, re.findall(r"\d+", name))) for name in names)
    first, last = numbers[0], numbers[-1]
    return bool(first) and first[:-1] == last[:-1] and last[-1] - first[-1] == len(names) - 1
