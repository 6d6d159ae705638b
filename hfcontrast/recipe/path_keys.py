"""Which settings of a recipe are paths, and what the command line says of one."""

import os
from typing import Any

KeyPath = tuple[str, ...]

SOURCE_PATHS = ("path", "data_dir", "data_files")  # of where rows come from
PATHS: tuple[KeyPath, ...] = (
    ("train", "output"),
    ("text", "tokenizer"),
    ("backbone", "pretrained"),
    ("backbone", "vision", "pretrained"),
    ("backbone", "text", "pretrained"),
)
_NULL = ("", "~", "null", "Null", "NULL")  # as YAML has them


def is_path(key: KeyPath) -> bool:
    """Whether a setting is a path, or in the place of one the name of something on the Hub."""
    return key in PATHS or (key[0] in ("data", "eval") and len(key) == 2 and key[1] in SOURCE_PATHS)


def path_given(key: KeyPath, text: str, value: Any) -> Any:
    """A path as the command line gives it: the text as it is, whatever YAML makes of ``#``, brackets, colons and numbers in it.

    Null, quotes around the whole, and for ``data_files`` lists and mappings are those of YAML; a file of the very name goes before
    these.

    Args:
        key: The setting.
        text: What stands behind the ``=``.
        value: The text as YAML; None where it is none.
    """
    name = text.strip()
    if name in _NULL:
        return None
    if isinstance(value, list | dict) and key[-1] == "data_files" and not os.path.lexists(name):
        return value
    if isinstance(value, str) and name[0] in "'\"":
        return value
    return text if os.path.lexists(text) else name
