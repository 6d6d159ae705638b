"""Names with braces, as the webdataset library writes them: ``shard-{000..009}.tar``, ``{train,extra}-0.tar``."""

import os
import re
from typing import Any

_BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


def expand_braces(files: Any, base: str = "") -> Any:
    """``data_files`` with every name that has braces replaced by the names that they stand for.

    Args:
        files: A name or pattern, a list of some, or a mapping from splits to either; a name with braces that is one of a file stays.
        base: The folder that they are in.
    """
    if isinstance(files, dict):
        return {split: expand_braces(names, base) for split, names in files.items()}
    if isinstance(files, list | tuple):
        return [name for pattern in files for name in _names(pattern, base)]
    names = _names(files, base) if isinstance(files, str) else [files]
    return names if len(names) > 1 else names[0]


def _names(pattern: str, base: str) -> list[str]:
    found = _BRACES.search(pattern)
    if not found or os.path.exists(os.path.join(base, pattern)):
        return [pattern]
    first, last, listed = found.groups()
    if listed is not None:
        parts = listed.split(",")
    else:
        width = len(first) if first.startswith("0") or len(first) == len(last) else 0
        step = 1 if int(first) <= int(last) else -1
        parts = [str(number).zfill(width) for number in range(int(first), int(last) + step, step)]
    return [name for part in parts for name in _names(pattern[: found.start()] + part + pattern[found.end() :], base)]
