"""Rows of other data sets than that of the test images, for evaluators whose settings name some."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..data.sources import Rows, load_rows
from .batches import Batches
from .data_sets import DataSet, data_set_of, path_of
from .held_out import first_held_out

# Of a data set that a further task names, nothing of the first one's is meant but this.
_OF_ANY_SOURCE = ("streaming", "open_addresses", "max_pixels", "window", "channels")


_PLACE = ("path", "name", "data_dir", "data_files", "revision")


class OtherRows:
    """Opens rows of another split or data set, each once, and prepares them as the test images are.

    Args:
        make: Makes batches of rows, as those of the test images were made.
        source: Where the test rows come from, as arguments of ``load_rows``.
        split: Their split; None where a fifth of the train rows was held out.

    Attributes:
        name: Gives the name of a data set from the arguments of ``load_rows``.
    """

    def __init__(self, make: Callable[..., Batches] | None, source: Mapping[str, Any], split: str | None):
        self.make, self.source, self.split = make, dict(source), split
        self.name: Callable[..., str] = path_of
        self._opened: dict[str, tuple[Rows, Batches, tuple[dict[str, Any], str]]] = {}

    def data_of(self, own: Mapping[str, Any], split: str | None = None) -> DataSet | None:
        """What :meth:`open` gives rows of; None where these are the test rows, perhaps by another column of labels.

        Args:
            own: As for :meth:`open`.
            split: The same.
        """
        rows, _, (source, split) = self._open(own, split)
        same = split == self.split and all(source.get(key) == self.source.get(key) for key in _PLACE)
        return None if same else data_set_of(rows, source, split, self.name)

    def open(self, own: Mapping[str, Any], split: str | None = None) -> tuple[Rows, Batches]:
        """Rows and their batches.

        Args:
            own: What differs from where the test rows come from, as arguments of ``load_rows``; None where nothing does.
            split: Their split; None: that of the test rows, else the best that is held out.

        Raises:
            DataError: They cannot be opened.
        """
        return self._open(own, split)[:2]

    def _open(self, own: Mapping[str, Any], split: str | None) -> tuple[Rows, Batches, tuple[dict[str, Any], str]]:
        """The same, and from where they were opened: the arguments of ``load_rows``, and the split."""
        named = json.dumps([dict(own), split], sort_keys=True, default=str)
        if named not in self._opened:
            changed = {name: value for name, value in own.items() if value is not None}
            source = dict(self.source)
            if own.get("path") is not None:
                source = {name: source[name] for name in _OF_ANY_SOURCE if name in source}
            source |= changed
            split = split or self.split
            if split is None:
                source, split = first_held_out(source)
            rows = load_rows(**source, split=split)
            self._opened[named] = rows, self.make(rows), (source, split)
        return self._opened[named]
