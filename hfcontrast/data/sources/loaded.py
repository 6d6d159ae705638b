"""Everything that ``datasets.load_dataset`` takes: data sets of the Hub, folders, and files of a format."""

import glob
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import datasets
import numpy as np
from datasets import DatasetBuilder, ReadInstruction
from datasets.download.streaming_download_manager import StreamingDownloadManager
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES
from datasets.utils.info_utils import is_small_dataset

from hfcontrast.data.fingerprint import fingerprint_of_files
from hfcontrast.data.row_identities import of_split
from hfcontrast.data.sources.archives import guarded
from hfcontrast.data.sources.braces import expand_braces
from hfcontrast.data.sources.folders import is_described, listing_of, no_images
from hfcontrast.data.sources.own_split import alone, with_own_labels
from hfcontrast.data.sources.row_counts import count_rows
from hfcontrast.data.sources.slices import unknown_split
from hfcontrast.data.sources.source import FORMATS, Opened, Source, each_pattern, require_one_split, split_names
from hfcontrast.data.stream_errors import LOADING_ERRORS, error_text
from hfcontrast.errors import DataError
from hfcontrast.hub import reaching_hub
from hfcontrast.paths import is_address, local_pattern

logger = logging.getLogger(__name__)

_NOTHING = "corresponds to no data"  # what datasets says of a split that it has found no file for
_NONE_FOUND = (datasets.data_files.EmptyDatasetError, datasets.exceptions.DataFilesNotFoundError)
_TABLES = ("parquet", "arrow", "json", "csv")
_TEXTS = ("text", "pdffolder", "xml")  # what folders may hold that have no images


def takes(source: Source) -> bool:
    """Any path: of the kinds of sources, this is the last."""
    return True


def splits(source: Source) -> list[str]:
    """The names of its splits."""
    _check_local(source)
    with _reaching_hub(source) as unreachable:
        try:
            return _split_names(source)
        except LOADING_ERRORS as error:
            raise DataError(
                f"{source.path} cannot be opened as a data set: {error_text(error)}{unreachable}"
            ) from error


def open_split(source: Source, split: str, streaming: bool) -> Opened:
    """One split; of map-style sets also slices and sums."""
    _check_local(source)
    if streaming:
        require_one_split(split)
    with _reaching_hub(source) as unreachable:
        try:
            return _open_streaming(source, split) if streaming else _open_prepared(source, split)
        except LOADING_ERRORS as error:
            raise DataError(_explain(error, source, split) + unreachable) from error


def _reaching_hub(source: Source) -> AbstractContextManager[str]:
    is_format = source.path in _PACKAGED_DATASETS_MODULES
    return nullcontext("") if is_format else reaching_hub(source.path)


def _builder(source: Source) -> DatasetBuilder:
    # Only what was given: some builders do not take what they have no use for.
    local = os.path.exists(source.path)
    base = os.path.join(source.path if local else "", source.data_dir or "")
    files = expand_braces(source.data_files, base)
    arguments = {"data_dir": source.data_dir, "data_files": files, "revision": source.revision}
    arguments = {key: value for key, value in arguments.items() if value is not None}
    if files is not None and (local or source.path in _PACKAGED_DATASETS_MODULES):
        arguments["data_files"] = each_pattern(files, lambda pattern: _literally(pattern, base))
    try:
        with _literal_folder(base):
            builder = guarded(datasets.load_dataset_builder(source.path, source.name, **arguments))
    except _NONE_FOUND:
        _check_images(source)
        raise
    _check_images(source, builder)
    return builder


def _literally(pattern: str, base: str) -> str:
    """A pattern for ``datasets`` in which the names of what is there are no patterns, and a colon begins no address."""
    literal = local_pattern(pattern, base)
    return (
        os.path.join(glob.escape(os.path.abspath(base)), literal)
        if ":" in literal and not is_address(literal)
        else literal
    )


@contextmanager
def _literal_folder(folder: str) -> Iterator[None]:
    """Lets ``datasets`` take the name of a folder as it is, where it would take brackets in it for a pattern."""
    if not (os.path.isdir(folder) and glob.has_magic(os.path.realpath(folder))):
        yield
        return
    resolve = datasets.data_files.resolve_pattern

    def resolve_in(pattern: str, base_path: str, *arguments: Any, **options: Any) -> list[str]:
        literal = glob.escape(base_path) if os.path.isdir(base_path) else base_path
        return resolve(pattern, literal, *arguments, **options)

    datasets.data_files.resolve_pattern = resolve_in
    try:
        yield
    finally:
        datasets.data_files.resolve_pattern = resolve


def _split_names(source: Source) -> list[str]:
    builder = _builder(source)
    if builder.info.splits:
        return list(builder.info.splits)
    found = builder._split_generators(StreamingDownloadManager(base_path=builder.base_path))
    return [generator.name for generator in found]


def _check_local(source: Source) -> None:
    if source.path.startswith((".", "/", "~")) and not os.path.exists(source.path):
        raise DataError(f"data.path {source.path} does not exist")
    chained = [name for name in _local_names(source) if "::" in name]
    if chained:
        raise DataError(f"{chained[0]} has :: in it, which stands for what is inside of an archive: rename it")
    folder = source.data_dir if source.path in FORMATS else None
    if folder is not None and not is_address(folder) and not os.path.exists(folder):
        raise DataError(f"data.data_dir {folder} does not exist")
    if source.path in FORMATS and source.data_dir is None and source.data_files is None:
        raise DataError(f"{source.path} is a format, not a data set: say where the files are, data_dir or data_files")


def _local_names(source: Source) -> list[str]:
    """The paths and patterns of a source that are not addresses."""
    names = [source.path, source.data_dir or ""]

    def note(pattern: str) -> str:
        names.append(pattern)
        return pattern

    each_pattern(source.data_files, note)
    return [name for name in names if not is_address(name)]


def _open_prepared(source: Source, split: str) -> Opened:
    names = split_names(split)
    builder = with_own_labels(_builder(source), names)
    try:
        builder.download_and_prepare()
    except LOADING_ERRORS as error:
        other = alone(builder, names)
        if other is None:
            raise
        other.download_and_prepare()
        logger.warning(
            "%s: split %s is read by itself, as the splits cannot be read together: %s",
            source.path,
            split,
            error_text(error),
        )
        builder = other
    dataset = builder.as_dataset(split=split, in_memory=is_small_dataset(builder.info.dataset_size))
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    parts = [(part.splitname, part.from_, part.to) for part in ReadInstruction.from_spec(split).to_absolute(sizes)]
    return Opened(dataset, [len(dataset)], None, row_ids=partial(_ids_of_parts, source, builder, parts, sizes))


def _ids_of_parts(
    source: Source, builder: DatasetBuilder, parts: list[tuple[str, int | None, int | None]], sizes: dict[str, int]
) -> np.ndarray:
    """The identities of the rows of slices of splits: name, first row and row after the last of each."""
    names = dict.fromkeys(name for name, *_ in parts)
    found = {name: _split_ids(source, builder, name, sizes[name]) for name in names}
    return np.concatenate([found[name][first:last] for name, first, last in parts])


def _split_ids(source: Source, builder: DatasetBuilder, name: str, rows: int) -> np.ndarray:
    """The identities of the rows of a whole split."""
    place = "\n".join(str(part) for part in (source.path, source.name, source.revision, source.data_dir, name))
    files = [str(file) for file in (builder.config.data_files or {}).get(name, ())]
    return of_split(place, files, count_rows(builder, name), rows)


def _open_streaming(source: Source, split: str) -> Opened:
    builder = with_own_labels(_builder(source), {split})
    if type(builder).__module__.endswith(".json"):  # which takes the types of all splits from the first one
        builder = alone(builder, {split}) or builder
    dataset = builder.as_streaming_dataset(split=split)
    known = (dataset.info.splits or {}).get(split)
    sizes = count_rows(builder, split)
    if sizes is None and known and known.num_examples:
        sizes = [known.num_examples]
    files = tuple(map(str, (builder.config.data_files or {}).get(split, ())))
    remote = not files or any(map(is_address, files))
    files = files if len(files) == dataset.num_shards else ()
    row_ids = None if sizes is None else partial(_split_ids, source, builder, split, sum(sizes))
    return Opened(dataset, sizes, fingerprint_of_files(builder, split), files, remote=remote, row_ids=row_ids)


def _check_images(source: Source, builder: DatasetBuilder | None = None) -> None:
    """Refuses a local folder in which there is nothing that could be images, or a table of them.

    Args:
        source: The source.
        builder: What reads it; None where nothing does.

    Raises:
        DataError: There is nothing, or the files that its README.md names are not there.
    """
    if not os.path.isdir(source.path) or source.data_files is not None:
        return
    kind = "" if builder is None else type(builder).__module__.rsplit(".", 1)[-1]
    if builder is None and is_described(source.folder):
        raise DataError(
            f"{os.path.join(source.path, datasets.config.REPOCARD_FILENAME)} says under configs which files there are, and they are not "
            "there: correct or remove its configs, or set data.path=imagefolder and data.data_dir to the folder"
        )
    if builder is None or kind in _TEXTS:
        listing = listing_of(os.path.join(source.folder, source.data_dir or ""))
        if not len(listing):
            raise DataError(no_images(listing))


def _explain(error: Exception, source: Source, split: str) -> str:
    if _NOTHING in str(error) and source.path in _TABLES:
        return f"{source.data_files or source.data_dir} (split {split}) has no rows"
    if _NOTHING in str(error):
        where = source.data_dir or source.data_files or source.path
        return f"{where} holds no images: no file there (split {split}) ends as one does, in .jpg, .png or the like"
    cause = error_text(error)
    try:
        names = _split_names(source)
    except (*LOADING_ERRORS, DataError):
        hint = "" if os.path.exists(source.path) or source.path in FORMATS else " (there is no such folder here either)"
        return f"{source.path} cannot be opened as a data set{hint}: {cause}"
    if unknown := sorted(set(split_names(split)) - set(names)):
        return str(unknown_split(source.path, unknown[0], names))
    return f"{source.path}, split {split}, cannot be opened: {cause}"
