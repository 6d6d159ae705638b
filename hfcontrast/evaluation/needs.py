"""What evaluators need of rows and encoders, and the errors where it is lacking."""

import difflib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ..data.sources import Rows
from ..errors import DataError
from .protocol import CLASS_NAMES, NEEDS, TEXT_TOWER

if TYPE_CHECKING:
    from .rows import EvaluationRows


def further_columns(needs: Collection[str]) -> tuple[str, ...]:
    """The columns of the data among some needs."""
    return tuple(sorted(set(needs) - set(NEEDS)))


def named(batches: Any, otherwise: str) -> str:
    """What rows are called of which these are batches; where that is not known, something else."""
    rows = getattr(batches, "all_rows", None)
    return otherwise if rows is None else rows.description


class Described:
    """Rows whose images are not prepared yet: what they have can be asked for, as of batches of them."""

    def __init__(self, rows: Rows):
        self.all_rows = rows

    def __call__(self) -> Any:
        """There are no batches."""
        raise TypeError("the images of these rows are not prepared")


def require(lacking: Collection[str], task: str, rows: "EvaluationRows", hints: Mapping[str, str]) -> None:
    """Refuses a task that rows or the encoder do not allow.

    Args:
        lacking: What :meth:`EvaluationRows.lacks` returned.
        task: The task's name.
        rows: The rows.
        hints: What to do about it, by what is lacking: an option or a key.

    Raises:
        DataError: Something is lacking.
    """
    for need in lacking:
        where = "the encoder" if need == TEXT_TOWER else named(rows.test, "the data")
        hint = f": {hints[need]}" if need in hints else ""
        if need == CLASS_NAMES:
            texts = rows.test_rows is not None and rows.test_rows.labels.texts
            what = "texts of a stream, which are not known beforehand" if texts else "numbers without names"
            raise DataError(f"the labels of {where} are {what}; {task} needs the names of the classes{hint}")
        what = need.removeprefix("a ") if need in NEEDS else f"column {need!r}"
        raise DataError(f"{where} has no {what}, which {task} needs{hint or meant(need)}")


def meant(need: str) -> str:
    """What was probably meant by a need that is taken for a column as no other has its name: ``; did you mean 'labels'?``."""
    near = () if need in NEEDS else difflib.get_close_matches(need, NEEDS, n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else ""
