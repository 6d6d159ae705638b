"""Listing: the image files of a folder, found in one walk.

Nothing is asked of a file but what its folder says of it: a million files are listed in seconds. Files whose ending is no image's are
opened to see how they begin; links are followed, but not back to a folder that they are in.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow

from hfcontrast.data.image_formats import begins_as_image, ending_of, image_endings
from hfcontrast.errors import DataError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# What operating systems, and the tools of data sets, leave behind; so do hidden files and folders, and folders called __NAME.
_LITTER_NAMES = (
    "thumbs.db ehthumbs.db desktop.ini readme readme.md readme.txt license license.md license.txt config.json dataset_info.json "
    "dataset_infos.json dataset_dict.json dummy_data.zip"
)
_LITTER_FILES = frozenset(_LITTER_NAMES.split())
_LITTER_FOLDERS = frozenset({"@eadir", "$recycle.bin", "system volume information", "lost+found"})
_CHUNK = 65_536  # paths put into one array
_NAMED = 8  # endings at most in a sentence

BROKEN, BACK, UNNAMED, SPECIAL = (
    "broken links",
    "links back to a folder that they are in",
    "names that are no UTF-8",
    "no regular files",
)
_OF_ONE = {
    BROKEN: "broken link",
    BACK: "link back to a folder that it is in",
    UNNAMED: "name that is no UTF-8",
    SPECIAL: "no regular file",
}


@dataclass(frozen=True, eq=False)
class Listing:
    """The image files below a folder, or in an archive, in the order of their paths.

    Attributes:
        place: What was listed, for messages.
        before: What stands before the path within, in the path that is opened: ``/my/images/``, or ``zip://``.
        after: What stands behind it: nothing, or ``::/my/images.zip``.
        files: The paths that are opened, (N,) strings.
        folders: The folders, relative to the place; the first is the place itself, ``""``.
        folder_of: (N,) int32, for each file the number of its folder.
        metadata: Paths of metadata files, relative to the place.
        archives: Paths of zip archives, relative to the place.
        unused: How many files of each ending are neither; what is left out for another reason under that reason.
        litter: How many files of each ending are left out without a word, such as a readme.
        closed: Folders that may not be read, relative to the place.
    """

    place: str
    before: str
    after: str
    files: pyarrow.ChunkedArray
    folders: list[str]
    folder_of: np.ndarray
    metadata: list[str]
    archives: list[str]
    unused: Counter[str]
    litter: Counter[str]
    closed: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def path(self, within: str) -> str:
        """The path that is opened, of one relative to the place."""
        return f"{self.before}{within}{self.after}"

    def unused_sentence(self) -> str:
        """Says by ending what is not used; empty where everything is."""
        if not self.unused:
            return ""
        counts = Counter({ending: number + self.litter[ending] for ending, number in self.unused.items()})
        count, most = counts.total(), counts.most_common(_NAMED)
        named = [
            f"{number} {(_OF_ONE.get(ending, ending) if number == 1 else ending) or 'without ending'}"
            for ending, number in most
        ]
        if others := count - sum(number for _, number in most):
            named.append(f"{others} {'others' if others > 1 else 'other'}")
        files = "files" if count > 1 else "file"
        return f"{count} {files} of {self.place} {'are' if count > 1 else 'is'} not used: {', '.join(named)}"

    def closed_sentence(self) -> str:
        """Names the folders that may not be read; empty where there is none."""
        if not self.closed:
            return ""
        named = ", ".join(self.path(folder) for folder in self.closed[:_NAMED])
        if (count := len(self.closed)) == 1:
            return f"the folder {named} may not be read, and its images are not used: make it readable (chmod -R u+rX)"
        more = f" and {count - _NAMED} more" * (count > _NAMED)
        return f"{count} folders may not be read, and their images are not used: make them readable (chmod -R u+rX): {named}{more}"


@dataclass
class Collector:
    """Makes a listing of files that are named folder by folder.

    Args:
        place: What is listed, for messages.
        before: See ``Listing``.
        after: See ``Listing``.
    """

    place: str
    before: str
    after: str = ""
    folders: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)
    litter: Counter[str] = field(default_factory=Counter)
    closed: list[str] = field(default_factory=list)
    _paths: list[str] = field(default_factory=list)
    _numbers: list[int] = field(default_factory=list)
    _chunks: list[pyarrow.Array] = field(default_factory=list)
    _folder_of: list[np.ndarray] = field(default_factory=list)

    def add_folder(self, folder: str) -> int:
        """Begins a folder, by its path relative to the place; returns its number."""
        self.folders.append(folder)
        return len(self.folders) - 1

    def add_image(self, number: int, path: str) -> None:
        """An image of a folder, by the path that is opened."""
        self._paths.append(path)
        self._numbers.append(number)
        if len(self._paths) == _CHUNK:
            self._flush()

    def add_other(self, folder: str, name: str) -> None:
        """Any other file of a folder."""
        if name in METADATA:
            self.metadata.append(f"{folder}{name}")
        elif name.lower() in _LITTER_FILES:
            self.litter[ending_of(name)] += 1
        else:
            ending = ending_of(name)
            self.unused[ending] += 1
            if ending == ".zip":
                self.archives.append(f"{folder}{name}")

    def finish(self) -> Listing:
        """The listing of all that was added."""
        self._flush()
        files = pyarrow.chunked_array(self._chunks, type=pyarrow.string())
        folder_of = np.concatenate(self._folder_of) if self._folder_of else np.zeros(0, dtype=np.int32)
        return Listing(
            self.place,
            self.before,
            self.after,
            files,
            self.folders,
            folder_of,
            self.metadata,
            self.archives,
            self.unused,
            self.litter,
            self.closed,
        )

    def _flush(self) -> None:
        if self._paths:
            self._chunks.append(pyarrow.array(self._paths, type=pyarrow.string()))
            self._folder_of.append(np.array(self._numbers, dtype=np.int32))
            self._paths, self._numbers = [], []


def is_hidden(name: str, folder: bool) -> bool:
    """Whether a file or folder is left out without a word: hidden, or litter."""
    return name.startswith(".") or (folder and (name.startswith("__") or name.lower() in _LITTER_FOLDERS))


def list_folder(root: str) -> tuple[Listing, list[tuple[str, os.stat_result]]]:
    """Lists the images below a folder.

    Args:
        root: Its absolute path.

    Returns:
        The listing, and all folders that were read with their state before, by which a change is noticed.

    Raises:
        DataError: The folder may not be read.
    """
    before = os.path.join(root, "")
    found = Collector(root, before)
    endings = image_endings()
    states: list[tuple[str, os.stat_result]] = []
    above: list[tuple[int, int]] = []  # the folders that are being read
    open_folders: list[tuple[int, str, Iterator[tuple[str, bool]]]] = []

    def enter(folder: str) -> None:
        state = os.stat(before + folder)
        if (state.st_dev, state.st_ino) in above:
            found.unused[BACK] += 1
            return
        entries = _entries(before + folder, found.unused)
        states.append((before + folder, state))
        above.append((state.st_dev, state.st_ino))
        open_folders.append((found.add_folder(folder), folder, entries))

    try:
        enter("")
    except OSError as error:
        raise DataError(f"{root} cannot be read: {error.strerror}") from error
    while open_folders:
        number, folder, entries = open_folders[-1]
        place = before + folder
        for name, is_folder in entries:
            if is_folder:
                try:
                    enter(folder + name)
                except OSError:
                    found.closed.append(folder + name.rstrip("/"))
                    continue
                if open_folders[-1][0] != number:
                    break
            elif ending_of(name) in endings or (
                name not in METADATA and name.lower() not in _LITTER_FILES and begins_as_image(place + name)
            ):
                found.add_image(number, place + name)
            else:
                found.add_other(folder, name)
        else:
            open_folders.pop()
            above.pop()
    return found.finish(), states


def _entries(path: str, unused: Counter[str]) -> Iterator[tuple[str, bool]]:
    """Names of files, and of folders with a slash, in the order of the paths below them."""
    names: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if is_hidden(name, folder=False):
                continue
            if entry.is_file():
                names.append(name)
            elif entry.is_dir():
                if not is_hidden(name, folder=True):
                    names.append(name + "/")
            else:
                unused[BROKEN if entry.is_symlink() else SPECIAL] += 1
    names.sort()
    return _readable(names, unused)


def _readable(names: Iterable[str], unused: Counter[str]) -> Iterator[tuple[str, bool]]:
    for name in names:
        if not name.isascii():
            try:
                name.encode()
            except UnicodeEncodeError:  # bytes of another encoding, which a path of rows cannot hold
                unused[UNNAMED] += 1
                continue
        yield name, name.endswith("/")
