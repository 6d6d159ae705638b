"""Webdataset archives, including truncated and damaged ones, texts in ``.cls``, and jpg beside png.

``datasets`` reads a tar until its bytes make no further member: a file that was cut off there ends without a word, one that was
cut off elsewhere in an exception that ends the whole stream. Here what is missing becomes one row whose image cannot be read,
so that it is named and counted like any other. The reader of ``datasets`` has no setting for that, so it is subclassed: what other
code of the same process opens through ``datasets`` is read as ever, and is cached apart from what is read here.
"""

import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import datasets
from datasets import DatasetBuilder, DatasetInfo
from datasets.packaged_modules.webdataset.webdataset import WebDataset
from datasets.utils.file_utils import ArchiveIterable

from hfcontrast.data.columns import IMAGE
from hfcontrast.data.decode import DAMAGE

_ERRORS = (tarfile.TarError, EOFError, zlib.error, OSError)


def _number_or_text(data: bytes) -> int | str:
    text = _text(data)
    try:
        return int(text)
    except ValueError:
        return text.strip()


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _json_or_nothing(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


class GuardedWebDataset(WebDataset):
    """The webdataset builder of ``datasets``, whose samples end with one that cannot be read where an archive is damaged."""

    IMAGE_EXTENSIONS = [*WebDataset.IMAGE_EXTENSIONS, IMAGE]
    # These decode while datasets reads: where one fails, the stream ends. With the mark for undecodable bytes in it, or without
    # its value, the row can be left out and counted.
    DECODERS = {**WebDataset.DECODERS, "txt": _text, "text": _text, "cls": _number_or_text, "json": _json_or_nothing}
    _inferring = False  # the columns, from the first samples of the first archive

    def _split_generators(self, dl_manager: Any) -> Any:
        self._inferring = True
        try:
            return super()._split_generators(_Downloads(dl_manager))
        finally:
            self._inferring = False

    def _get_pipeline_from_tar(self, tar_path: str, tar_iterator: Any) -> Iterator[dict[str, Any]]:
        """The samples of an archive, and one that cannot be read for whatever comes behind the first damage."""
        damage: list[Exception] = []
        count, sample = 0, {IMAGE: None}
        samples = super()._get_pipeline_from_tar(tar_path, _until_damage(tar_iterator, damage))
        try:
            for sample in map(_with_one_name, samples):
                yield sample
                count += 1
        except _ERRORS as error:  # in the middle of a file
            damage.append(error)
        if damage and self._inferring and not count:
            raise ValueError(f"{tar_path} is not a tar archive that can be read: {damage[0]}") from damage[0]
        if damage:
            images = [name for name in sample if name.rsplit(".", 1)[-1].lower() in self.IMAGE_EXTENSIONS]
            cause = DAMAGE + f"{tar_path} is cut off or damaged after {count} samples: {damage[0]}".encode()
            place = {"__key__": f"{tar_path}, behind sample {count}", "__url__": tar_path}
            yield {**dict.fromkeys(sample), **dict.fromkeys(images, cause), **place}


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
    copy._cache_dir = copy._output_dir = builder._cache_dir + "_guarded"
    if os.path.exists(os.path.join(copy._cache_dir, info_file)):
        copy.info = DatasetInfo.from_directory(copy._cache_dir)
    elif os.path.exists(os.path.join(builder._cache_dir, info_file)):  # found there: of the columns without the guard
        names = {
            name: getattr(builder.info, name) for name in ("builder_name", "dataset_name", "config_name", "version")
        }
        copy.info = DatasetInfo(**names)
    return copy


class _Downloads:
    """A download manager of ``datasets`` that opens archives as ``_Archive``."""

    def __init__(self, manager: Any):
        self._manager = manager

    def download(self, files: Any) -> Any:
        return self._manager.download(files)

    def iter_archive(self, path: Any) -> "_Archive":
        return _Archive.from_urlpath(*self._manager.iter_archive(path).args)


class _Archive(ArchiveIterable):
    """The files of an archive, in order; of a tar, hidden ones are left out."""

    @staticmethod
    def _iter_tar(f: Any) -> Iterator[tuple[str, Any]]:
        """The files of a tar.

        Raises:
            tarfile.ReadError: The tar has no end, or something behind it.
        """
        ended = []

        class Header(tarfile.TarInfo):
            @classmethod
            def frombuf(cls, *arguments: Any) -> tarfile.TarInfo:  # type: ignore[override]
                try:
                    return super().frombuf(*arguments)
                except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it; the block of zeros that ends every whole tar
                    ended.append(True)
                    raise

        stream = tarfile.open(fileobj=f, mode="r|*", tarinfo=Header)  # noqa: SIM115, the caller closes the file
        for member in stream:
            name = member.name.rsplit("/", 1)[-1]
            if member.isreg() and not name.startswith((".", "__")):
                yield member.name, stream.extractfile(member)
            stream.members = []  # type: ignore[attr-defined]  # which would grow for ever
        if not ended:
            raise tarfile.ReadError("the file ends, or is damaged, before the end of the archive")
        if any(stream.fileobj.read(tarfile.RECORDSIZE)):
            raise tarfile.ReadError("there is more behind the archive's end, as in archives that were joined")


def _until_damage(members: Iterable[tuple[str, Any]], damage: list[Exception]) -> Iterator[tuple[str, Any]]:
    """Ends without an exception, so that the sample before the damage is kept, and notes why."""
    try:
        yield from members
    except _ERRORS as error:
        damage.append(error)


def _with_one_name(sample: dict[str, Any]) -> dict[str, Any]:
    """Calls the only image of a sample ``image``: archives have jpg and png side by side."""
    images = [name for name in sample if name.lower() in GuardedWebDataset.IMAGE_EXTENSIONS]
    if len(images) != 1:
        return sample
    return {IMAGE if name == images[0] else name: value for name, value in sample.items()}
