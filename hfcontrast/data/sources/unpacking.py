"""Archives of images: what is in them, and unpacking them into the cache, once for each state of a file.

A folder in the cache is complete or not there: it gets its name when everything is in it. Nothing is written outside of it, whatever
names an archive gives, and what an archive has beside regular files is not unpacked but counted.
"""

import functools
import hashlib
import logging
import lzma
import os
import posixpath
import shutil
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from filelock import FileLock

from hfcontrast.data.image_formats import ending_of, image_endings
from hfcontrast.data.sources.archive_members import noting_end
from hfcontrast.data.sources.folders import is_hidden
from hfcontrast.errors import DataError
from hfcontrast.progress import LongTask

logger = logging.getLogger(__name__)

_ZIP = (".zip",)
_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz")
ENDINGS = (*_ZIP, *_TAR)
_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)
IMAGES, SAMPLES, OTHERS = "images", "samples", "others"
_LOOKED_AT = 1000  # files whose names say what kind of tar it is


class _Member(NamedTuple):
    """What an archive has beside folders.

    Attributes:
        name: Its name there.
        size: Its size, in bytes.
        open: What opens a regular file.
        link: The name of the file that a link leads to.
    """

    name: str
    size: int
    open: Callable[[], Any] | None
    link: str | None = None


def is_archive(path: str) -> bool:
    """Whether a path is a zip or tar file of this machine, by its ending."""
    return path.lower().endswith(ENDINGS) and os.path.isfile(path)


def content_of(path: str) -> str:
    """What an archive holds, by the names of its first files: ``IMAGES``, ``SAMPLES`` of a webdataset (a tar), or ``OTHERS``.

    Raises:
        DataError: It cannot be read.
    """
    state = os.stat(path)
    return _content_of(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _content_of(path: str, size: int, changed: int) -> str:
    with _reading(path):
        names = [name for member in islice(_members(path), _LOOKED_AT) if (name := _safe(member.name))]
    images = [name for name in names if ending_of(name) in image_endings()]
    if images and path.lower().endswith(_TAR) and _are_samples(images, names):
        return SAMPLES
    return IMAGES if images else OTHERS


def has_class_folders(path: str) -> bool:
    """Whether the images of an archive lie in two folders or more, below one that may hold them all.

    Raises:
        DataError: It cannot be read.
    """
    with _reading(path):
        names = [name for member in _members(path) if (name := _safe(member.name)) and not _is_litter(name)]
    folders = {f"/{posixpath.dirname(name)}" for name in names if ending_of(name) in image_endings()}
    above = posixpath.commonpath(folders)
    return len({posixpath.relpath(folder, above).partition("/")[0] for folder in folders if folder != above}) > 1


def _are_samples(images: list[str], names: list[str]) -> bool:
    """Whether files are samples of a webdataset: half of the images, or more, have other files beside them with the same key."""
    keys = Counter(map(_key, names))
    return sum(keys[_key(name)] > 1 for name in images) >= len(images) / 2


def _key(name: str) -> str:
    """The name up to the first dot behind the last slash, as webdataset has it."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def unpack(path: str) -> str:
    """Unpacks an archive into the cache, unless it is there already.

    Args:
        path: A zip or tar file.

    Returns:
        The folder.

    Raises:
        DataError: It cannot be read, or is damaged, or there is not enough space.
    """
    state, place = os.stat(path), os.path.realpath(path)
    return in_cache(
        path, stem_of(path), f"{place}\n{state.st_size}\n{state.st_mtime_ns}", functools.partial(_unpack, path)
    )


def link_folders(folders: dict[str, str]) -> str:
    """A folder in the cache with links to others by these names.

    Args:
        folders: The folders by the names of the links.
    """

    def link(unfinished: Path) -> None:
        for name, folder in folders.items():
            (unfinished / name).symlink_to(folder, target_is_directory=True)

    return in_cache(" and ".join(folders.values()), "splits", repr(sorted(folders.items())), link)


def in_cache(path: str, name: str, key: str, fill: Callable[[Path], None]) -> str:
    """A folder in the cache, filled unless it is there already: by one process, and only with its name once it is complete.

    Args:
        path: What is unpacked, for messages.
        name: What the folder's name begins with.
        key: What the folder's contents follow from.
        fill: Fills the folder.

    Raises:
        DataError: It cannot be filled.
    """
    hashed = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:16]
    target = Path(datasets.config.HF_DATASETS_CACHE) / "hfcontrast_archives" / f"{name[:60]}-{hashed}"
    if target.is_dir():
        return str(target)
    unfinished = target.with_name(f".unfinished_{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if not target.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
                try:
                    unfinished.mkdir()
                    fill(unfinished)
                    os.replace(unfinished, target)
                except BaseException:
                    shutil.rmtree(unfinished, ignore_errors=True)
                    raise
    except OSError as error:
        raise DataError(f"{path} cannot be unpacked into {target}: {error.strerror or error}") from error
    return str(target)


def _unpack(path: str, folder: Path) -> None:
    """Unpacks an archive into a folder that is there, and says what was left out."""
    with _reading(path), LongTask(f"unpacking {path}") as task:
        left_out = _write_members(path, folder, task)
    os.sync()
    if left_out:
        named = ", ".join(f"{count} {what}" for what, count in left_out.items())
        logger.warning("%s: not unpacked: %s", path, named)


def _write_members(path: str, folder: Path, task: LongTask) -> Counter[str]:
    """Writes the files of an archive into a folder; returns how many were left out, by the reason."""
    left_out: Counter[str] = Counter()
    links = []
    for member in _members(path):
        name = _safe(member.name)
        if name is None:
            left_out["names that lead out of the folder"] += 1
        elif not _is_litter(name):
            if member.size > (free := shutil.disk_usage(folder).free):
                raise DataError(
                    f"{path} cannot be unpacked into {folder.parent}: {free / 1e9:,.1f} GB are free; free some space, or set "
                    "HF_DATASETS_CACHE to a folder on a larger disk"
                )
            if member.open is None:
                links.append((folder / name, _safe(member.link or "")))
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with member.open() as source, (folder / name).open("wb") as written:
                    shutil.copyfileobj(source, written, 1 << 20)
        task.update()
    for file, target in links:
        if target and (folder / target).is_file() and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / target, file)
        else:
            left_out["links to what is not in it, or no regular files"] += 1
    return left_out


def _members(path: str) -> Iterator[_Member]:
    """The files of an archive, in their order."""
    if path.lower().endswith(_ZIP):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    name = info.filename if "/" in info.filename else info.filename.replace("\\", "/")
                    yield _Member(name, info.file_size, functools.partial(archive.open, info))
        return
    ended: list[bool] = []
    with tarfile.open(path, "r|*", tarinfo=noting_end(ended)) as tar:
        for entry in tar:
            if entry.isreg():
                yield _Member(entry.name, entry.size, functools.partial(tar.extractfile, entry))
            elif not entry.isdir():
                link = (
                    posixpath.join(posixpath.dirname(entry.name), entry.linkname) if entry.issym() else entry.linkname
                )
                yield _Member(entry.name, 0, None, posixpath.normpath(link))
            tar.members = []  # type: ignore[attr-defined]  # which would grow for ever
        if not ended:
            raise tarfile.ReadError("it ends before the end of the archive")


def _safe(name: str) -> str | None:
    """The name of a member as a path within a folder; None for one that leads out of it, or is no name."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if not parts or name.startswith("/") or ".." in parts else "/".join(parts)


def _is_litter(name: str) -> bool:
    """Whether a file is hidden, or in a hidden folder, such as __MACOSX."""
    *folders, file = name.split("/")
    return is_hidden(file, folder=False) or any(is_hidden(folder, folder=True) for folder in folders)


def stem_of(path: str) -> str:
    """The name of an archive without its folder and ending."""
    name = os.path.basename(path)
    ending = max((ending for ending in ENDINGS if name.lower().endswith(ending)), key=len)
    return name[: -len(ending)] or "archive"


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """A block that reads an archive: damage is told in one sentence."""
    try:
        yield
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk; the others are of damaged bytes
            raise
        raise DataError(
            f"{path} is no zip or tar archive that can be read: it is damaged, cut off or has a password ({error})"
        ) from error
