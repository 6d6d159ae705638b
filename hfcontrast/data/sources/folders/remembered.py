"""Remembered listings: a folder that has not changed is not walked again in one process."""

import os
import time
from typing import NamedTuple

from hfcontrast.data.sources.folders.listing import Listing, list_folder

_KEPT = 4  # listings
_SETTLED = 2_000_000_000  # ns; a folder that was changed shortly before may be changed again with the same time


class _Remembered(NamedTuple):
    listing: Listing
    states: list[tuple[str, tuple[int, int, int]]]


_remembered: dict[str, _Remembered] = {}


def listing_of(folder: str) -> Listing:
    """Lists the images below a folder, or takes the listing from before where no folder in it has changed.

    Args:
        folder: The folder; links in its path are resolved.

    Raises:
        DataError: The folder may not be read.
    """
    root = os.path.realpath(folder)
    known = _remembered.pop(root, None)
    if known is None or any(_state(path) != state for path, state in known.states):
        now = time.time_ns()
        listing, states = list_folder(root)
        if any(state.st_mtime_ns > now - _SETTLED for _, state in states):
            return listing
        known = _Remembered(listing, [(path, _told(state)) for path, state in states])
    _remembered[root] = known
    while len(_remembered) > _KEPT:
        del _remembered[next(iter(_remembered))]
    return known.listing


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        return _told(os.stat(path))
    except OSError:
        return None


def _told(state: os.stat_result) -> tuple[int, int, int]:
    return state.st_dev, state.st_ino, state.st_mtime_ns
