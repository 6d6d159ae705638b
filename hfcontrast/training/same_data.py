"""A run is resumed only on the data that it was started on."""

from typing import Any

from ..checksums import is_older
from ..data.sources import Rows
from ..errors import CheckpointError
from .checkpoint import Checkpoints

DATA = "data"  # what the notes of a checkpoint call it


def check_same_data(rows: Rows, checkpoints: Checkpoints) -> dict[str, Any]:
    """Compares the rows with those of the newest checkpoint; returns what is to be noted of them.

    On other rows the permutations, the numbers of the images (and with them memory banks) and the length of an epoch would be
    others. A run that was begun before this was noted is resumed, and one of an earlier version, whose fingerprint cannot be compared,
    on as many rows.

    Raises:
        CheckpointError: The checkpoint was made on other rows.
    """
    now = {"rows": rows.num_rows, "fingerprint": rows.fingerprint()}
    newest = checkpoints.newest()
    before = checkpoints.notes(newest).get(DATA) if newest else None
    expected = now
    if before is not None and is_older(before.get("fingerprint")):
        expected = now | {"fingerprint": before["fingerprint"]}
    if before not in (None, expected):
        raise CheckpointError(
            f"the data has changed since {newest} was written: {_described(before)} then, {_described(now)} now "
            f"({rows.description}); bring the old data back to resume, or choose another train.output to start over"
        )
    return now


def _described(data: dict[str, Any]) -> str:
    rows = "an unknown number of rows" if data.get("rows") is None else f"{data['rows']} rows"
    return f"{rows} with fingerprint {(data.get('fingerprint') or 'unknown')[:20]}"
