"""Zip and tar files of images: opened as the folders that they are archives of.

An archive may be ``data_dir`` or ``data_files`` of imagefolder, the path itself, or all that is in the folder that one of these names;
so may be one for each split, as ``train.zip`` and ``test.zip``, and one for each class, as ``cat.zip`` and ``dog.zip``. Further trees of archives are
in ``archive_trees``.
Tars with the samples of a webdataset, and archives without images, are what they were; so are those of a data set on the Hub.
"""

import glob
import logging
import os
from dataclasses import replace
from os import scandir

from hfcontrast.console import warn_once
from hfcontrast.data.sources.archive_trees import (
    are_parts,
    holds_tars_of_images,
    is_note,
    tree_of,
    tree_of_files,
    unpack_tree,
)
from hfcontrast.data.sources.folders import is_described, is_hidden
from hfcontrast.data.sources.folders.layout import split_named
from hfcontrast.data.sources.source import Source
from hfcontrast.data.sources.tars_beside_tables import tars_beside_tables
from hfcontrast.data.sources.unpacking import (
    ENDINGS,
    IMAGES,
    SAMPLES,
    content_of,
    has_class_folders,
    is_archive,
    link_folders,
    stem_of,
    unpack,
)
from hfcontrast.errors import DataError
from hfcontrast.paths import existing_part, is_address, local_pattern

logger = logging.getLogger(__name__)

FORMAT = "imagefolder"
_FEW = 5  # archives that are all named
_OTHERS = (".7z", ".rar")  # which are unpacked by hand
_DEPTH = 3  # archives in archives


def unpacked(source: Source, depth: int = 0) -> Source:
    """The source with archives of images replaced by the folder that they were unpacked into; any other source as it is.

    Args:
        source: The source.
        depth: In how many archives it is.

    Raises:
        DataError: An archive cannot be read or unpacked, or holds nothing.
    """
    archives = _archives(source)
    if not archives:
        place = _folder(source)[0] if source.path != FORMAT else ""
        tars = tars_beside_tables(place) if place else None
        return tars or _unpacked_tree(source, depth)
    kinds = {content_of(archive) for archive in archives.values()}
    own = [source.path, source.data_dir, *([*archives.values()] if source.data_files else [])]
    # Itself, or an archive that it is in, and not its folder.
    named = any(archive in own for archive in archives.values()) or (depth > 0 and "" in archives)
    if SAMPLES in kinds and named and source.data_files is None:
        return _samples(source, archives[""])
    if SAMPLES in kinds or (kinds != {IMAGES} and not named):
        return source
    folders = {split: unpack(archive) for split, archive in archives.items()}
    for split, unpacked_to in folders.items():
        if not os.listdir(unpacked_to):
            raise DataError(f"{archives[split]} holds no files")
    if depth == _DEPTH:
        raise DataError(f"{' and '.join(archives.values())} is in {_DEPTH} archives: unpack them")
    folder = folders[""] if "" in folders else link_folders(folders)
    return _read_from(folder, source, " and ".join(archives.values()), len(archives), depth)


def _unpacked_tree(source: Source, depth: int) -> Source:
    """The source with archives in folders, or with parts of one set, replaced by the folder that they make; any other as it is."""
    place, endings = _folder(source)
    if source.path == FORMAT and source.data_files is not None:
        place = source.data_dir or "data_files"
        found = _all_archives(source)
        tree = tree_of_files(place, found, ENDINGS) if found else None
    else:
        tree = tree_of(place, endings) if place else None
    if tree is None:
        if place and source.path != FORMAT and holds_tars_of_images(place):
            warn_once(
                logger,
                f"the tars in {place} are read as a webdataset, and their images have no labels: data.path=imagefolder with "
                f"data.data_dir={place} takes the folders in them, or tars without folders, for classes",
            )
        return source
    archives, folder = list(tree.folders), unpack_tree(tree)
    named = " and ".join(archives) if len(archives) < _FEW else f"the {len(archives)} archives in {place}"
    return _read_from(folder, source, named, len(archives), depth)


def _read_from(folder: str, source: Source, named: str, count: int, depth: int) -> Source:
    """The source with the folder that archives were unpacked to in their place, and what is packed in that; says so."""
    warn_once(
        logger, f"the files of {named} are read from {folder}, where {'it was' if count == 1 else 'they were'} unpacked"
    )
    if source.path == FORMAT:
        return unpacked(replace(source, data_dir=folder, data_files=None), depth + 1)
    return unpacked(replace(source, path=folder, data_dir=None), depth + 1)


def _folder(source: Source) -> tuple[str, tuple[str, ...]]:
    """The folder that may have archives, and their endings; an empty text where a source is no folder of this machine."""
    if hasattr(source.path, "dataset") or source.name is not None or source.data_files is not None:
        return "", ()
    base = source.data_dir or ""
    if source.path == FORMAT:
        return ("" if is_address(base) else base), ENDINGS
    if not os.path.isdir(source.path) or is_described(source.folder):
        return "", ()
    return os.path.join(source.path, base) if base else source.path, (".zip",)


def _all_archives(source: Source) -> dict[str, list[str]]:
    """The archives that ``data_files`` of imagefolder name, by the folders of their splits; empty where it names other files too."""
    base, given = source.data_dir or "", source.data_files
    named = given if isinstance(given, dict) else {"train": given}
    found: dict[str, list[str]] = {}
    for split, patterns in named.items():
        paths = [
            path
            for pattern in ([patterns] if isinstance(patterns, str) else patterns)
            for path in _paths(pattern, base)
        ]
        if not paths or not all(map(is_archive, paths)):
            return {}
        found["" if named.keys() == {"train"} else f"{split}/"] = paths
    return found if found.keys() <= {"", "train/", "validation/", "test/"} else {}


def _paths(pattern: str, base: str) -> list[str]:
    """What a path or pattern of this machine names."""
    if not isinstance(pattern, str) or is_address(pattern):
        return []
    literal, rest = existing_part(os.path.expanduser(pattern), base)
    top = os.path.join(base, literal)
    return (
        [os.path.join(top, name) for name in sorted(glob.glob(rest, root_dir=top, recursive=True))] if rest else [top]
    )


def _samples(source: Source, archive: str) -> Source:
    """A tar of samples that is named itself, as the webdataset that it is."""
    if source.path == FORMAT:
        raise DataError(
            f"{archive} holds the samples of a webdataset, not a folder of images: set data.path=webdataset and data.data_files={archive}"
        )
    return Source("webdataset", data_files={"train": local_pattern(archive)})


def _archives(source: Source) -> dict[str, str]:
    """The archives that a source names, by the splits or classes that they are; a single one by ``""``. Empty where there are other files."""
    if hasattr(source.path, "dataset") or source.name is not None:
        return {}
    base = source.data_dir or ""
    if source.path != FORMAT:
        place = os.path.join(source.path, base) if base else source.path
        described = os.path.isdir(source.path) and is_described(source.folder)
        return {} if described or source.data_files is not None else _archives_at(place, (".zip",))
    if source.data_files is None:
        return _archives_at(base, ENDINGS) if base and not is_address(base) else {}
    files = source.data_files if isinstance(source.data_files, dict) else {"train": source.data_files}
    found = {split: _only(given, base) for split, given in files.items()}
    if any(archive is None for archive in found.values()) or not found.keys() <= {"train", "validation", "test"}:
        return {}
    return {"": found["train"]} if found.keys() == {"train"} else found


def _only(given: str | list[str], base: str) -> str | None:
    """The archive that ``data_files`` of one split are."""
    names = [given] if isinstance(given, str) else given
    path = os.path.join(base, names[0]) if len(names) == 1 else ""
    return path if is_archive(path) else None


def _archives_at(place: str, of_classes: tuple[str, ...]) -> dict[str, str]:
    """The archive that a place is; or those in a folder, where nothing else is: a single one, one a split, or one a class.

    Args:
        place: The path.
        of_classes: The endings of archives that may be one a class.
    """
    if os.path.isfile(place):
        if place.lower().endswith(_OTHERS):
            raise DataError(f"{place} is an archive of a kind that is not opened: unpack it, or pack it as zip or tar")
        return {"": place} if is_archive(place) else {}
    found: dict[str, str] = {}
    try:
        with scandir(place) as entries:  # to the first that is no archive
            for entry in entries:
                if not is_note(entry.name) and not is_hidden(entry.name, entry.is_dir()):
                    if not is_archive(entry.path) or stem_of(entry.path) in found:
                        return {}
                    found[stem_of(entry.path)] = entry.path
    except OSError:  # no folder, or one that may not be read
        return {}
    if len(found) == 1:
        return {"": next(iter(found.values()))}
    return found if all(map(split_named, found)) or _are_classes(place, found, of_classes) else {}


def _are_classes(place: str, archives: dict[str, str], endings: tuple[str, ...]) -> bool:
    """Whether there is one archive a class: none has class folders, and their names are no numbers of parts."""
    for archive in archives.values():  # to the first that is none
        if not archive.lower().endswith(endings) or content_of(archive) != IMAGES or has_class_folders(archive):
            return False
    return not are_parts(place, list(archives))
