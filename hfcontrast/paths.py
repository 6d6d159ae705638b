"""Local paths as users write them: the home folder, names in any Unicode normalization form, names with characters of patterns."""

import glob
import json
import os
import unicodedata
from pathlib import Path

HOME = "~"


def local_path(path: str, base: str = "") -> str:
    """A path with ``~`` and ``~USER`` expanded, and names as the disk has them.

    Composed and decomposed letters look alike and are different names on most disks: where there is no file of a name, one that is
    canonically equivalent is taken (macOS decomposes names, keyboards compose them). Anything else stays what it is: names on the Hub,
    addresses, ``~NAME`` of an unknown user, what does not exist.

    Args:
        path: A path, or the name or address of something else.
        base: The folder that it is relative to.
    """
    if is_address(path):
        return path
    path = os.path.expanduser(path)
    if path.isascii() or os.path.lexists(os.path.join(base, path)):
        return path
    literal, rest = existing_part(path, base)
    return os.path.join(literal, rest) if rest else literal


def local_pattern(pattern: str, base: str = "") -> str:
    """A pattern of file names whose leading names are taken literally as far as there are files or folders of these names.

    ``photos [2024]/*.jpg`` are the files of the folder ``photos [2024]``, if there is one.

    Args:
        pattern: A name or pattern, as in ``glob``; or an address, which stays as it is.
        base: The folder that it is relative to.
    """
    if is_address(pattern):
        return pattern
    literal, rest = existing_part(os.path.expanduser(pattern), base)
    if not rest:
        return glob.escape(literal)
    return os.path.join(glob.escape(literal), _equivalent(rest, os.path.join(base, literal)))


def existing_part(path: str, base: str = "") -> tuple[str, str]:
    """The leading names of a path, or pattern, of which there are files or folders, as the disk has them; and the rest.

    Args:
        path: The path.
        base: The folder that it is relative to.
    """
    literal, parts = "", Path(path).parts
    for number, part in enumerate(parts):
        following = os.path.join(literal, _as_on_disk(os.path.join(base, literal), part))
        if not os.path.lexists(os.path.join(base, following)):
            return literal, os.path.join(*parts[number:])
        literal = following
    return literal, ""


def is_address(path: str) -> bool:
    """Whether a path is not a local one, but an address such as ``https://...`` or ``hf://...``, or ``zip://...::...``."""
    return "://" in path


def home_problem(path: str) -> str | None:
    """Why nothing may be written to a path that has a folder called ``~`` in it; None for any other.

    A folder of that name is a mistake, and one that is dangerous to remove.

    Args:
        path: As ``local_path`` gives it.
    """
    parts = Path(path).parts
    if HOME not in parts or os.path.isdir(os.path.join(*parts[: parts.index(HOME) + 1])):
        return None
    if parts[0] == HOME:
        return f"the home folder that ~ stands for in {path} is not known: write the folder in full"
    return (
        f"{path} has a folder called ~ in it, which would be no home folder: begin the path with ~, or write it in full"
    )


def quoted(path: str | Path) -> str:
    """A path as a string literal of Python, in double quotes."""
    return json.dumps(str(path), ensure_ascii=False)


def _as_on_disk(folder: str, name: str) -> str:
    """The name of a file in a folder that is canonically equivalent to one that is not there; else the name itself."""
    if name.isascii() or os.path.lexists(os.path.join(folder, name)):
        return name
    composed = unicodedata.normalize("NFC", name)
    try:
        there = sorted(os.listdir(folder or "."))
    except OSError:
        return name
    return next((other for other in there if unicodedata.normalize("NFC", other) == composed), name)


def _equivalent(pattern: str, folder: str) -> str:
    """A pattern in the normalization form in which files match it."""
    if pattern.isascii():
        return pattern
    forms = (pattern, unicodedata.normalize("NFC", pattern), unicodedata.normalize("NFD", pattern))
    matching = (form for form in forms if next(glob.iglob(form, root_dir=folder or ".", recursive=True), None))
    return next(matching, pattern)
