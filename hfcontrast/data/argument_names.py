"""Errors about settings of a recipe, said of the arguments of whoever has no recipe."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hfcontrast.errors import DataError

_OWN = {"path": "rows", "split": "split", "image_column": "image_column", "label_column": "label_column"}
_OWN |= {"max_unreadable": "max_unreadable"}
_SETTING = re.compile(r"(?<![\w/.])data\.(\w+)")
_FIELDS = [
    "name",
    "data_dir",
    "data_files",
    "revision",
    "image_key",
    "caption_column",
    "open_addresses",
    "max_pixels",
    "window",
    "channels",
]
_COMMANDS = re.compile(r" \(of embed: [^)]*\)")


def as_arguments(text: str) -> str:
    """A message in which settings such as ``data.split`` are called as the arguments of ``ViewDataset``, or of ``load_rows``.

    Args:
        text: The message.
    """

    def renamed(match: re.Match[str]) -> str:
        name = match[1]
        return _OWN.get(name) or (f"{name} of hfcontrast.data.load_rows" if name in _FIELDS else match[0])

    return _SETTING.sub(renamed, _COMMANDS.sub("", text))


@contextmanager
def naming_arguments() -> Iterator[None]:
    """Says what is raised of settings inside of arguments."""
    try:
        yield
    except DataError as error:
        raise DataError(as_arguments(str(error))) from error
