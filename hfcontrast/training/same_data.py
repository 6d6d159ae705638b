"""A run is resumed only on the data that it was started on."""

from typing import Any

from ..checksums import is_older
from ..data.fingerprint import fingerprints_of_earlier_labels
from ..data.sources import Rows
from ..errors import CheckpointError
from .checkpoint import Checkpoints

DATA = "data"  # what the notes of a checkpoint call it


def check_same_data(rows: Rows, checkpoints: Checkpoints, labels_matter: bool = True) -> dict[str, Any]:
    """Compares the rows with those of the newest checkpoint; returns what is to be noted of them.

    On other rows the permutations, the numbers of the images (and with them memory banks) and the length of an epoch would be
    others. A run that was begun before this was noted is resumed, and one of an earlier version, whose fingerprint cannot be compared,
    on as many rows. Labels that are found in folders today, and were not by an earlier version, are no change for a method without labels.

    Args:
        rows: What is trained on now.
        checkpoints: Those of the run.
        labels_matter: Whether the method learns from labels.

    Raises:
        CheckpointError: The checkpoint was made on other rows.
    """
    now = {"rows": rows.num_rows, "fingerprint": rows.fingerprint()}
    newest = checkpoints.newest()
    before = checkpoints.notes(newest).get(DATA) if newest else None
    expected = now
    if before is not None and is_older(before.get("fingerprint")):
        expected = now | {"fingerprint": before["fingerprint"]}
    if before in (None, expected):
        return now
    earlier = () if labels_matter or rows.streaming else fingerprints_of_earlier_labels(rows.dataset)
    if before not in (now | {"fingerprint": fingerprint} for fingerprint in earlier):
        raise CheckpointError(
            f"the data has changed since {newest} was written: {_described(before)} then, {_described(now)} now "
            f"({rows.description}); bring the old data back to resume (where a folder is read otherwise now, data.data_files "
            "lists its files as they were), or choose another train.output to start over"
        )
    return now


def begun_on(rows: Rows, checkpoints: Checkpoints) -> bool:
    """Whether a run has a checkpoint that was written on as many rows as these, or before their number was noted.

    Args:
        rows: The rows.
        checkpoints: Those of the run.
    """
    newest = checkpoints.newest()
    before = checkpoints.notes(newest).get(DATA) if newest else {"rows": None}
    return before is None or (newest is not None and before.get("rows") == rows.num_rows)


def _described(data: dict[str, Any]) -> str:
    rows = "an unknown number of rows" if data.get("rows") is None else f"{data['rows']} rows"
    return f"{rows} with fingerprint {(data.get('fingerprint') or 'unknown')[:20]}"
