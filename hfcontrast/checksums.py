"""Hashes prefixed by their algorithm: fingerprints of data and of models (BLAKE2b) and checksums of files (CRC-32)."""

import hashlib
import re
import zlib
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20  # bytes read at once
_OLDER = re.compile(r"[0-9a-f]{32}")  # XXH3, of earlier versions: these did not say so


def new_fingerprint() -> Any:
    """A hash to ``update``, of 128 bits; see :func:`finished`."""
    return hashlib.blake2b(digest_size=16)


def finished(found: Any) -> str:
    """A fingerprint as text, with what it was made with."""
    return f"{found.name}:{found.hexdigest()}"


def is_older(text: object) -> bool:
    """Whether a fingerprint or checksum is one of an earlier version, which those of today cannot be compared with."""
    return isinstance(text, str) and _OLDER.fullmatch(text) is not None


def checksum(data: bytes) -> str:
    """A checksum that shows damage."""
    return f"crc32:{zlib.crc32(data):08x}"


def checksum_of_file(file: Path) -> str:
    """The checksum of what a file holds."""
    found = 0
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            found = zlib.crc32(block, found)
    return f"crc32:{found:08x}"
