"""What a method needs of every row, its labels or captions, is looked for before anything expensive is done."""

from ..data.sources import Rows
from ..errors import DataError
from ..methods.base import Method
from ..methods.contract.arguments import needs_captions, needs_labels


def check_required_rows(rows: Rows, method_class: type[Method], name: str) -> None:
    """Refuses rows without the labels or captions that a method learns from.

    Args:
        rows: The rows that are trained on.
        method_class: The method.
        name: What recipes call it.

    Raises:
        DataError: There are none, or all of them are -1 or empty.
    """
    if needs_labels(method_class) and not rows.has_labels():
        none = "has only labels below 0, which stand for none" if rows.labeled else "has none"
        raise DataError(
            f"method '{name}' learns from labels, and {rows.description} {none}: name their column in "
            "data.label_column, or take a method that needs none"
        )
    if needs_captions(method_class) and not rows.has_captions():
        raise DataError(
            f"method '{name}' learns from captions, and all those of {rows.description} are missing, empty or not UTF-8: name their "
            "column in data.caption_column, or take a method that needs none"
        )
