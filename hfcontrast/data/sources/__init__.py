"""Sources: rows from a Hub data set, local files, a folder saved to disk or a built-in set, map-style or streaming."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Unpack

from hfcontrast.data.columns import ColumnKeywords, Columns
from hfcontrast.data.decode import MAX_PIXELS
from hfcontrast.data.image_reader import ImageReader, places_of
from hfcontrast.data.rows import Rows, rows_of
from hfcontrast.data.sources import built_in, folders, in_memory, loaded, saved
from hfcontrast.data.sources.packed import unpacked
from hfcontrast.data.sources.single_file import as_table
from hfcontrast.data.sources.source import Kind, Opened, Source, SourceKeywords
from hfcontrast.errors import DataError
from hfcontrast.progress import LongTask

__all__ = ["KINDS", "Columns", "Rows", "Source", "available_splits", "load_rows", "rows_of"]

KINDS: tuple[Kind, ...] = (in_memory, built_in, saved, folders, loaded)  # the first that takes a source opens it


class _RowKeywords(SourceKeywords, ColumnKeywords, total=False):
    pass


def load_rows(
    path: str | Source,
    *,
    split: str = "train",
    streaming: bool = False,
    columns: Columns | Sequence[str] = (),
    open_addresses: bool = False,
    max_pixels: int = MAX_PIXELS,
    window: tuple[float, float] | None = None,
    channels: int | None = None,
    **keywords: Unpack[_RowKeywords],
) -> Rows:
    """Opens one split of a data set.

    Args:
        path: Where the rows come from: a ``Source``, or its path, beside which ``name``, ``data_dir``, ``data_files`` and ``revision``
            are keywords.
        split: The split; of map-style sets also slices and sums, as ``train[:50%]`` or ``train+test``.
        streaming: Whether to read the rows in order as they come, instead of by number.
        columns: What is read of a row: ``Columns``, or the names of further columns, beside which ``image_column``,
            ``image_key``, ``label_column``, ``caption_column``, ``captioned`` and ``tensors`` are keywords.
        open_addresses: Whether addresses that rows hold instead of images are opened, and of a data set from elsewhere files of
            this machine; files and addresses of the data set itself always are.
        max_pixels: Pixels of an image at most; a larger one cannot be read.
        window: The values of grays of more than 8 bits that become black and white; None: the range of the format.
        channels: How many channels images have; None is 3: any image is made RGB.
        keywords: The fields of ``Source`` and ``Columns``, as said above.

    Raises:
        DataError: The path, split or a column does not exist, or the split is empty.
    """
    source, rest = _source_of(path, keywords)
    description = f"{source.title(split)} (split {split})"
    with LongTask(f"opening {description}"):
        source = as_table(unpacked(source))
        opened = _kind_of(source).open_split(source, split, streaming)
        rows = _rows(opened, source, description, columns, rest)
        if rows.captions and opened.listed is not None:
            opened = opened.listed()
            rows = _rows(opened, source, description, columns, rest)
    places = places_of(source.path, source.data_dir, source.data_files)
    reader = ImageReader(max_pixels, open_addresses, *places, window=window, channels=channels or 3)
    return replace(
        rows,
        reader=reader,
        files=opened.files,
        shard_files=opened.shard_files,
        remote=opened.remote,
        row_ids=opened.row_ids,
        not_used=dict(opened.not_used),
    )


def _rows(
    opened: Opened, source: Source, description: str, columns: Columns | Sequence[str], keywords: dict[str, Any]
) -> Rows:
    """The columns that are wanted of an opened split."""
    num_rows = None if opened.sizes is None else sum(opened.sizes)
    if num_rows == 0:
        where = ": it holds no images" if source.path == "imagefolder" else ""
        raise DataError(f"{description} is empty{where}")
    rows = rows_of(opened.dataset, num_rows, description, columns=columns, **keywords)
    starts = tuple(itertools.accumulate(opened.sizes[:-1], initial=0)) if rows.streaming and opened.sizes else None
    return replace(rows, starts=starts)


def available_splits(path: str | Source, **keywords: Unpack[SourceKeywords]) -> list[str]:
    """The names of the splits of a data set; arguments as in ``load_rows``.

    Raises:
        DataError: There is no such data set.
    """
    source, rest = _source_of(path, keywords)
    if rest:
        raise TypeError(f"available_splits takes {', '.join(SourceKeywords.__annotations__)}, not {', '.join(rest)}")
    source = as_table(unpacked(source))
    return _kind_of(source).splits(source)


def _source_of(path: str | Source, keywords: Any) -> tuple[Source, dict[str, Any]]:
    """The source, and the keywords that are not its own."""
    own = {name: value for name, value in keywords.items() if name in SourceKeywords.__annotations__}
    rest = {name: value for name, value in keywords.items() if name not in own}
    if isinstance(path, Source) and own:
        raise TypeError(f"{', '.join(own)} belongs to the Source: give a Source alone, or a path with keywords")
    source = path if isinstance(path, Source) else Source(path, **own)
    return source.resolved(), rest


def _kind_of(source: Source) -> Kind:
    return next(kind for kind in KINDS if kind.takes(source))
