"""Labels in metadata files that not all images of a split have: the others keep those of their folders, where the names agree."""

from collections.abc import Sequence

import numpy as np
import pyarrow
import pyarrow.compute

_NAMED = 5  # at most in a sentence
_LOOKED_AT = 1000  # labels


def complete_labels(
    given: pyarrow.ChunkedArray, rows: int, of_folders: np.ndarray | None, classes: Sequence[str]
) -> tuple[pyarrow.ChunkedArray, str]:
    """Gives the rows that no metadata file has the labels of their folders.

    Args:
        given: (N,) the labels in metadata files, null where there is none.
        rows: How many rows, the first ones, metadata files have: what is null among them has no label.
        of_folders: (N,) int64, the label by the folder, -1 where there is none; None without class folders.
        classes: The names of the folders by label.

    Returns:
        The labels, and why some are missing; nothing where none is.
    """
    missing, why = given.null_count, ""
    if missing and of_folders is not None:
        if _agree(given, of_folders, classes):
            numbers = pyarrow.array(of_folders[rows:], mask=of_folders[rows:] < 0)
            names = numbers if pyarrow.types.is_integer(given.type) else pyarrow.array(classes).take(numbers)
            chunks = [*given.slice(0, rows).chunks, names.cast(given.type)]
            given = pyarrow.chunked_array(chunks, type=given.type)
        else:
            known = given.drop_null().slice(0, _LOOKED_AT).to_pylist()  # of any type: lists have no ``unique``
            first = list(dict.fromkeys(map(str, known)))[:_NAMED]
            why = (
                f", and those ({', '.join(first)}) are not the folders ({', '.join(classes[:_NAMED])})" if first else ""
            )
    if not given.null_count:
        return given, ""
    return given, f"metadata gives labels to {len(given) - missing}{why}"


def _agree(given: pyarrow.ChunkedArray, of_folders: np.ndarray, classes: Sequence[str]) -> bool:
    """Whether labels are the names of folders, or each the number of its own folder."""
    if pyarrow.types.is_integer(given.type):
        known = given.is_valid().to_numpy()
        return bool((given.drop_null().to_numpy() == of_folders[known]).all())
    if not (pyarrow.types.is_string(given.type) or pyarrow.types.is_large_string(given.type)):
        return False
    return set(given.unique().drop_null().to_pylist()) <= set(classes)
