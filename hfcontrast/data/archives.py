"""Webdataset archives as they are found: cut off, damaged, with texts in ``.cls``, jpg beside png.

``datasets`` reads a tar until its bytes make no further member: a file that was cut off there ends in silence, one that was
cut off elsewhere in an exception that ends the whole stream. Here what is missing becomes one row whose image cannot be read,
so that it is named and counted like any other. Importing this module changes the reader of ``datasets``, which has no setting for it.
"""

import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from datasets.packaged_modules.webdataset.webdataset import WebDataset
from datasets.utils.file_utils import ArchiveIterable

from hfcontrast.data.decode import DAMAGE

IMAGE = "image"  # what the image of a sample is called, whatever its ending
_ERRORS = (tarfile.TarError, EOFError, zlib.error, OSError)
_read_samples = WebDataset._get_pipeline_from_tar.__func__
_split_generators = WebDataset._split_generators
_looking = False  # for the columns, in the first samples of the first archive


def _members(file: Any) -> Iterator[tuple[str, Any]]:
    """The files of a tar, in order; hidden ones are left out.

    Raises:
        tarfile.ReadError: The tar has no end, or something behind it.
    """
    ended = []

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, *arguments: Any) -> tarfile.TarInfo:
            try:
                return super().frombuf(*arguments)
            except tarfile.EOFHeaderError:  # the block of zeros that ends every whole tar
                ended.append(True)
                raise

    stream = tarfile.open(fileobj=file, mode="r|*", tarinfo=Header)  # noqa: SIM115, the caller closes the file
    for member in stream:
        name = member.name.rsplit("/", 1)[-1]
        if member.isreg() and not name.startswith((".", "__")):
            yield member.name, stream.extractfile(member)
        stream.members = []  # which would grow for ever
    if not ended:
        raise tarfile.ReadError("the file ends, or is damaged, before the end of the archive")
    if any(stream.fileobj.read(tarfile.RECORDSIZE)):
        raise tarfile.ReadError("there is more behind the archive's end, as in archives that were joined")


def _samples(cls: type, tar_path: str, tar_iterator: Any) -> Iterator[dict[str, Any]]:
    """The samples of an archive, and one that cannot be read for whatever comes behind the first damage."""
    count, sample, damage = 0, {IMAGE: None}, []
    try:
        for sample in map(_with_one_name, _read_samples(cls, tar_path, _until_damage(tar_iterator, damage))):
            yield sample
            count += 1
    except _ERRORS as error:  # in the middle of a file
        damage.append(error)
    if damage and _looking and not count:
        raise ValueError(f"{tar_path} is no tar archive that can be read: {damage[0]}") from damage[0]
    if damage:
        images = [name for name in sample if name.rsplit(".", 1)[-1].lower() in WebDataset.IMAGE_EXTENSIONS]
        cause = DAMAGE + f"{tar_path} is cut off or damaged after {count} samples: {damage[0]}".encode()
        place = {"__key__": f"{tar_path}, behind sample {count}", "__url__": tar_path}
        yield {**dict.fromkeys(sample), **dict.fromkeys(images, cause), **place}


def _until_damage(members: Iterable[tuple[str, Any]], damage: list[Exception]) -> Iterator[tuple[str, Any]]:
    """Ends in silence, so that the sample before the damage is kept, and notes why."""
    try:
        yield from members
    except _ERRORS as error:
        damage.append(error)


def _with_one_name(sample: dict[str, Any]) -> dict[str, Any]:
    """Calls the only image of a sample ``image``: archives have jpg and png side by side."""
    images = [name for name in sample if name.lower() in WebDataset.IMAGE_EXTENSIONS]
    if len(images) != 1:
        return sample
    return {IMAGE if name == images[0] else name: value for name, value in sample.items()}


def _look_for_columns(self: WebDataset, *arguments: Any) -> Any:
    global _looking
    _looking = True
    try:
        return _split_generators(self, *arguments)
    finally:
        _looking = False


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


ArchiveIterable._iter_tar = staticmethod(_members)
WebDataset._get_pipeline_from_tar = classmethod(_samples)
WebDataset._split_generators = _look_for_columns
WebDataset.IMAGE_EXTENSIONS.append(IMAGE)
# These decode while datasets reads: where one fails, the stream ends. With the mark for undecodable bytes in it, or without its
# value, the row can be left out and counted.
WebDataset.DECODERS |= {"txt": _text, "text": _text, "cls": _number_or_text, "json": _json_or_nothing}
