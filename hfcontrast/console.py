"""Printing: what stands in a text is printed as it is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(**options: Any) -> "Console":
    """A console of rich for texts that users write: a folder may be called ``runs [/b]`` or ``:dog:``, which rich would interpret.

    Args:
        **options: Of ``rich.console.Console``.
    """
    from rich.console import Console  # slow to import, and most commands print little

    return Console(markup=False, emoji=False, highlight=False, **options)
