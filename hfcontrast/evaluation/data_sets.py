"""The data that figures were measured on, as results, tables and cards file them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..data.sources import Rows


@dataclass(frozen=True)
class DataSet:
    """Rows that figures were measured on.

    Attributes:
        name: The name of the data set.
        split: The split, or where else the rows are: ``a fifth of train``.
        config: The configuration, where the data set has several.
        revision: The version of a Hub data set, where one was asked for.
        rows: How many rows there are, of which a limit may have been used; None where a stream does not know.
        fingerprint: Of their images and labels; None where nothing is known of a stream.
        with_captions: The same with the captions, where these were read.
    """

    name: str
    split: str
    config: str | None = None
    revision: str | None = None
    rows: int | None = None
    fingerprint: str | None = None
    with_captions: str | None = None

    @property
    def title(self) -> str:
        """What tables call it."""
        return f"{self.name} ({self.config}) ({self.split})" if self.config else f"{self.name} ({self.split})"


def path_of(path: str, **_: Any) -> str:
    """The name of a data set where nothing else is said: its path."""
    return str(path)


def data_set_of(rows: Rows, source: Mapping[str, Any], where: str, name: Callable[..., str] = path_of) -> DataSet:
    """Describes rows.

    Args:
        rows: The rows.
        source: Where they come from, as arguments of ``load_rows``.
        where: Their split, or where else they are.
        name: Gives the name of a data set from these arguments, of which ``name``, the configuration, is None.
    """
    config, revision = source.get("name"), source.get("revision")
    files = source.get("data_files")
    own = files.get(where, files) if isinstance(files, dict) else files  # of a mapping from splits
    named = name(**{**source, "name": None, "data_files": own})
    captions = rows.fingerprint() if rows.captions else None
    return DataSet(named, where, config, revision, rows.num_rows, rows.fingerprint(further=False), captions)
