"""The members of archives, in order, and what is wrong with an archive that is cut off or damaged."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from datasets.utils.file_utils import ArchiveIterable

ERRORS = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError)


class Downloads:
    """A download manager of ``datasets`` that opens archives as ``Archive``."""

    def __init__(self, manager: Any):
        self._manager = manager

    def download(self, files: Any) -> Any:
        return self._manager.download(files)

    def iter_archive(self, path: Any) -> "Archive":
        return Archive.from_urlpath(*self._manager.iter_archive(path).args)


class Archive(ArchiveIterable):
    """The files of an archive, in order; of a tar, hidden ones are left out."""

    @staticmethod
    def _iter_tar(f: Any) -> Iterator[tuple[str, Any]]:
        """The files of a tar.

        Raises:
            tarfile.ReadError: The tar has no end, or something behind it.
        """
        ended: list[bool] = []
        stream = tarfile.open(fileobj=f, mode="r|*", tarinfo=noting_end(ended))  # noqa: SIM115, the caller closes the file
        for member in stream:
            name = member.name.rsplit("/", 1)[-1]
            if member.isreg() and not name.startswith((".", "__")):
                yield member.name, stream.extractfile(member)
            stream.members = []  # type: ignore[attr-defined]  # which would grow for ever
        if not ended:
            raise tarfile.ReadError("the file ends, or is damaged, before the end of the archive")
        if any(stream.fileobj.read(tarfile.RECORDSIZE)):
            raise tarfile.ReadError("there is more behind the archive's end, as in archives that were joined")


def noting_end(ended: list[bool]) -> type[tarfile.TarInfo]:
    """The headers of a tar for ``tarfile.open(tarinfo=...)``, which note that the archive has an end; ``tarfile`` does not tell.

    Args:
        ended: Gets True at the block of zeros that ends every whole tar.
    """

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, *arguments: Any) -> tarfile.TarInfo:  # type: ignore[override]
            try:
                return super().frombuf(*arguments)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # which typeshed lacks
                ended.append(True)
                raise

    return Header


def until_damage(members: Iterable[tuple[str, Any]], damage: list[Exception]) -> Iterator[tuple[str, Any]]:
    """Ends without an exception, so that the sample before the damage is kept, and notes why."""
    try:
        yield from members
    except ERRORS as error:
        damage.append(error)
