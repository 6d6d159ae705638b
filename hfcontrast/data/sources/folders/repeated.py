"""Images that several rows of metadata name."""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow
import pyarrow.compute

from hfcontrast.errors import DataError


def first_rows(paths: pyarrow.ChunkedArray) -> np.ndarray:
    """(N,) whether no earlier row has the path of a row; true where it has none."""
    numbers = _numbers(paths)
    first = numbers < 0
    first[np.unique(numbers, return_index=True)[1]] = True
    return first


def refuse_twice(paths: Sequence[pyarrow.ChunkedArray], places: Sequence[str]) -> None:
    """Refuses metadata files that name the same images.

    Args:
        paths: The images of the rows of each file.
        places: The files.

    Raises:
        DataError: Two of the files name one image.
    """
    if len(paths) < 2:
        return
    every = pyarrow.chunked_array([chunk for column in paths for chunk in column.chunks], type=paths[0].type)
    numbers = _numbers(every)
    known = np.flatnonzero(numbers >= 0)
    file_of = np.repeat(np.arange(len(paths)), [len(column) for column in paths])[known]
    _, first, number = np.unique(numbers[known], return_index=True, return_inverse=True)
    twice = np.flatnonzero(file_of != file_of[first][number])
    if not len(twice):
        return
    row = twice[0]
    one, other = places[file_of[first][number][row]], places[file_of[row]]
    count = len(np.unique(number[twice]))
    what = f"{count} images, such as" if count > 1 else "the image"
    raise DataError(
        f"{one} and {other} both name {what} {os.path.basename(every[known[row]].as_py())}: keep one of the files, or write all columns into one"
    )


def _numbers(paths: pyarrow.ChunkedArray) -> np.ndarray:
    """(N,) the same number for the same path; -1 where there is none."""
    numbers = pyarrow.compute.index_in(paths, value_set=paths.unique().drop_null())
    return numbers.combine_chunks().fill_null(-1).to_numpy(zero_copy_only=False)
