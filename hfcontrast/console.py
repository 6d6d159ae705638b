"""Printing: texts are printed unchanged, without markup, and by one of several processes."""

import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 120  # columns of what is not a terminal, at least
_said: set[str] = set()  # what was warned of


def is_first_process() -> bool:
    """Whether this is the first, or only, of the processes that a launcher started: the one that prints; known before torch is imported."""
    return os.environ.get("RANK", "0") == "0"


def warn_once(logger: logging.Logger, sentence: str) -> None:
    """Warns once in a process, and in the first one only.

    Args:
        logger: Whose warning it is.
        sentence: The warning.
    """
    if sentence not in _said and is_first_process():
        _said.add(sentence)
        logger.warning("%s", sentence)


def plain_console(**options: Any) -> "Console":
    """A console of rich for texts that users write: a folder may be called ``runs [/b]`` or ``:dog:``, which rich would interpret.

    Args:
        **options: Of ``rich.console.Console``.
    """
    from rich.console import Console  # slow to import, and most commands print little

    console = Console(markup=False, emoji=False, highlight=False, **options)
    if not console.is_terminal and "width" not in options:  # a pipe or a file has no width: tables stay readable there
        console.width = max(console.width, _WIDTH)
    return console
