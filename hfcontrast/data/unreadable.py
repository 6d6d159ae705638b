"""Unreadable rows: each is named in one warning, they are counted over all processes, and more than the allowed share stop the run."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hfcontrast.errors import DataError

logger = logging.getLogger(__name__)

# Kinds of causes, by a part of what readers say; the first counts.
_KINDS = {
    "data.max_pixels": "more pixels than data.max_pixels",
    "times as long as wide": "more than 100 times as long as wide",
    "not part of the data set": "an address or file outside of the data set",
    "base64": "no image",
    "holds no image": "no image",
    "cannot be decoded": "cannot be decoded",
    "cannot be read": "cannot be opened",
    "is no caption": "no caption",
    "caption is empty": "an empty caption",
    "caption is not UTF-8": "a caption that is not UTF-8",
    "has no value": "a missing value",
}


def kind_of(cause: str) -> str:
    """The kind of a cause, without what is of one row only, such as the file."""
    return next((kind for part, kind in _KINDS.items() if part in cause), "damaged")


_FEW_ROWS = 200  # of a stream: below, a share of unreadable ones says nothing, until the first pass is over


class UnreadableRows:
    """The rows that could not be read so far.

    Args:
        description: A description of the rows, for messages.
        allowed: The share of unreadable rows above which the run stops.
        num_rows: How many rows there are; None for a stream, of which those are counted that were seen in its first pass.
        processes: How many processes read them.
        known: Those that an evaluation finds, by the same names, each with the cause: they count too.

    Attributes:
        causes: For each unreadable row, by its name, why.
        allowed: As given.
    """

    def __init__(
        self,
        description: str,
        allowed: float,
        num_rows: int | None,
        processes: int = 1,
        known: Mapping[str, str] | None = None,
    ):
        self.causes: dict[str, str] = {}
        self._description = description
        self.allowed = allowed
        self._num_rows = num_rows
        self._processes = processes
        self._known = {} if known is None else known
        self._unnamed: set[str] = set()  # of the known ones, which an evaluation has counted, but may not have named
        self._untold: dict[str, str] = {}
        self._seen = (0, False)  # rows of the first pass that this process has seen, and whether it is over

    def add(self, found: dict[str, str], seen: int = 0, pass_over: bool = False) -> None:
        """Takes note of some rows of this process.

        Args:
            found: Names and causes.
            seen: Of a stream: how many rows of its first pass this process has seen.
            pass_over: Whether those are all of its share.

        Raises:
            DataError: They are too many, whatever the other processes have found.
        """
        for name, cause in found.items():
            if name not in self.causes or name in self._unnamed:
                logger.warning("left out, as it cannot be read: %s: %s", name, cause)
        self._unnamed -= found.keys()
        new = {name: cause for name, cause in found.items() if name not in self.causes}
        evaluated = {name: cause for name, cause in self._known.items() if name not in self.causes | new}
        self._unnamed |= evaluated.keys()
        new |= evaluated
        self.causes |= new
        self._untold |= new
        self._seen = (seen, pass_over)
        if self._num_rows is not None or self._processes == 1:  # else how many rows there are shows together only
            self._check(seen, pass_over)

    def report(self) -> dict[str, Any]:
        """What the other processes have to know: the rows found since the last report, and how many were seen."""
        untold, self._untold = self._untold, {}
        return {"causes": untold, "seen": self._seen}

    def compare(self, reports: Sequence[dict[str, Any]]) -> None:
        """Takes note of the reports of all processes, in the same order on each.

        Raises:
            DataError: Together they are too many.
        """
        for report in reports:
            self.causes |= report["causes"]
        self._check(sum(seen for seen, _ in (r["seen"] for r in reports)), all(r["seen"][1] for r in reports))

    def _check(self, seen: int, pass_over: bool) -> None:
        total = self._num_rows if self._num_rows is not None else seen
        if self._num_rows is None and total < _FEW_ROWS and not pass_over:
            return
        if len(self.causes) > self.allowed * total:
            named = "; ".join(f"{name}: {cause}" for name, cause in list(self.causes.items())[:5])
            raise DataError(
                f"{len(self.causes)} of {total} rows of {self._description} cannot be read, more than the allowed share of "
                f"{self.allowed:g}: repair the data or raise data.max_unreadable. For example {named}"
            )
