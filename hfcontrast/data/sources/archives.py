"""Webdataset archives as they are found: damaged and empty ones, samples that lack members, texts in ``.cls``, jpg beside png.

``datasets`` reads a tar until its bytes make no further member: a file that was cut off there ends without a word, one that was
cut off elsewhere in an exception that ends the whole stream. Here what is missing becomes one row whose image cannot be read,
so that it is named and counted like any other. The reader of ``datasets`` has no setting for that, so it is subclassed: what other
code of the same process opens through ``datasets`` is read as ever, and is cached apart from what is read here.
"""

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

import datasets
from datasets import DatasetBuilder, DatasetInfo
from datasets.packaged_modules.webdataset.webdataset import WebDataset

from hfcontrast.data.columns import KEY
from hfcontrast.data.sources.archive_columns import URL, Layout, Notes, layout_of
from hfcontrast.data.sources.archive_members import ERRORS, Downloads, until_damage
from hfcontrast.data.sources.archive_samples import have_dotted_keys, samples_of
from hfcontrast.errors import DataError

# What the columns are found by: so many members of the first archive that has some, so many bytes at most; and of two others.
_MEMBERS, _MEMBERS_OF_OTHERS, _BYTES = 128, 16, 64 << 20


class GuardedWebDataset(WebDataset):
    """The webdataset builder of ``datasets``, whose samples end with one that cannot be read where an archive is damaged."""

    _layout: Layout | None = None

    def _split_generators(self, dl_manager: Any) -> Any:
        if not self.config.data_files:
            raise DataError("webdataset needs the archives: data_files or data_dir")
        downloads = Downloads(dl_manager)
        splits = []
        archives: list[tuple[str, Any]] = []
        for name, paths in downloads.download(self.config.data_files).items():
            iterators = [downloads.iter_archive(path) for path in paths]
            archives += zip(paths, iterators, strict=True)
            splits.append(
                datasets.SplitGenerator(name=name, gen_kwargs={"tar_paths": paths, "tar_iterators": iterators})
            )
        self._layout = _find_layout(archives, self.info.features)
        self.info.features = self._layout.features
        self._notes = Notes()
        return splits

    def _get_pipeline_from_tar(self, tar_path: str, tar_iterator: Any) -> Iterator[dict[str, Any]]:
        """The rows of an archive, and one that cannot be read for whatever comes behind the first damage."""
        assert self._layout is not None  # for mypy: made with the splits
        damage: list[Exception] = []
        count = 0
        notes = self._notes
        samples = samples_of(
            until_damage(tar_iterator, damage),
            self._layout.last_dot,
            lambda name: notes.add("files have no extension and are not read", name),
        )
        try:
            for sample in samples:
                yield self._layout.row(tar_path, sample, notes)
                count += 1
        except ERRORS as error:  # in the middle of a file
            damage.append(error)
        notes.tell(tar_path)
        if damage:
            cause = f"{tar_path} is cut off or damaged after {count} samples: {damage[0]}"
            place = {KEY: f"{tar_path}, behind sample {count}", URL: tar_path}
            yield {**dict.fromkeys(self._layout.features), **self._layout.unreadable(cause), **place}


def _find_layout(archives: list[tuple[str, Any]], declared: Any) -> Layout:
    """The columns, by the first samples of the first archive that has some, and of the middle and the last one where they are here.

    Raises:
        DataError: No archive has a sample.
    """
    first_damage: tuple[str, Exception] | None = None
    for number, (path, iterator) in enumerate(archives):
        damage: list[Exception] = []
        members = _first_members(iterator, _MEMBERS, damage)
        last_dot = have_dotted_keys([name for name, _ in members])
        samples = list(samples_of(members, last_dot))
        if damage and first_damage is None:
            first_damage = path, damage[0]
        if not samples:
            continue
        others = {(number + len(archives)) // 2, len(archives) - 1} - {number}
        for path_of_other, other in (archives[place] for place in sorted(others)):
            if "://" not in path_of_other:
                samples += samples_of(_first_members(other, _MEMBERS_OF_OTHERS, []), last_dot)
        return layout_of(path, samples, last_dot, declared)
    if first_damage:
        raise DataError(
            f"{first_damage[0]} is not a tar archive that can be read: {first_damage[1]}"
        ) from first_damage[1]
    raise DataError(
        f"{archives[0][0]}{f' and {len(archives) - 1} further archives hold' if len(archives) > 1 else ' holds'} no samples: files of "
        "one name that differ by their extensions, as 0001.jpg and 0001.cls"
    )


class _Read:
    """A member whose content has been read."""

    def __init__(self, data: bytes):
        self._data = data

    def read(self) -> bytes:
        return self._data


def _first_members(members: Any, count: int, damage: list[Exception]) -> list[tuple[str, _Read]]:
    """Some members with their contents, up to a damage."""
    found: list[tuple[str, _Read]] = []
    size = 0
    try:
        for name, file in islice(members, count):
            data = file.read()
            size += len(data)
            found.append((name, _Read(data)))
            if size > _BYTES:
                break
    except ERRORS as error:
        damage.append(error)
    return found


def guarded(builder: DatasetBuilder) -> DatasetBuilder:
    """A builder of webdataset archives as one that survives damage; any other builder as it is.

    Args:
        builder: What ``datasets.load_dataset_builder`` gave.
    """
    if not isinstance(builder, WebDataset):
        return builder
    info_file = datasets.config.DATASET_INFO_FILENAME
    copy = GuardedWebDataset.__new__(GuardedWebDataset)
    copy.__setstate__(dict(builder.__dict__))
    copy._cache_dir = copy._output_dir = builder._cache_dir + "_samples"
    if os.path.exists(os.path.join(copy._cache_dir, info_file)):
        copy.info = DatasetInfo.from_directory(copy._cache_dir)
    elif os.path.exists(os.path.join(builder._cache_dir, info_file)):  # found there: of the columns without the guard
        names = {
            name: getattr(builder.info, name) for name in ("builder_name", "dataset_name", "config_name", "version")
        }
        copy.info = DatasetInfo(**names)
    return copy
