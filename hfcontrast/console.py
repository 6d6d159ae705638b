"""Printing: texts are printed unchanged, without markup."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 120  # columns of what is not a terminal, at least


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
