"""Samples of an archive: consecutive members with one key, told apart by what their names end in.

As in the webdataset library, the key ends at the first dot of the name behind its folder, and what the rest of a name is called does
not depend on upper and lower case. Where that makes no samples of the members, since the keys themselves have dots, it ends at the last one.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets.filesystems import EXTENSION_TO_COMPRESSION_FS_FILE_CLS as COMPRESSIONS

_FIRST_DOT = re.compile(r"((?:.*/|)[^./]+)[.]([^/]*)")
_LAST_DOT = re.compile(r"(.*?[^./])[.]([^./]+(?:{})|[^./]+)".format("|".join(map(re.escape, COMPRESSIONS))))
_FEW = 8  # members that can be those of one sample
_OFTEN = 4  # times as many samples that a kind of member is seen in, when the key ends at the last dot


@dataclass
class Sample:
    """One sample as it is stored.

    Attributes:
        key: What the names of its members have in common.
        members: The contents by the lower-case rest of their names, as in ``{"jpg": ..., "json": ...}``.
        problem: Why it cannot be used; None where it can.
    """

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    problem: str | None = None


def split_name(name: str, last_dot: bool) -> tuple[str, str] | None:
    """The key of a member and the lower-case rest of its name; None where it has no extension.

    Args:
        name: The name, with its folder.
        last_dot: Whether the key ends at the last dot, and not at the first.
    """
    found = (_LAST_DOT if last_dot else _FIRST_DOT).fullmatch(name)
    return (found[1], found[2].lower()) if found else None


def split_extension(kind: str) -> tuple[str, str]:
    """What stands before the last extension of a member's kind, and that extension: ``("left", "jpg")``, ``("", "jpg")``."""
    stem, _, extension = kind.rpartition(".")
    return stem, extension


def have_dotted_keys(names: Sequence[str]) -> bool:
    """Whether the keys of an archive have dots, by the names of its first members.

    That is so where the kinds of members that the first dot gives belong to one sample each, as of ``img.001.jpg``, ``img.002.jpg``, or
    where no sample has members of two of the parts between the dots, as of ``a.v1.jpg``, ``a.v1.txt``, ``b.v2.jpg``. In
    ``0001.left.jpg``, ``0001.right.jpg`` the samples share both kinds, and the key ends at the first dot.
    """
    first = [found for name in names if (found := split_name(name, False))]
    last = [found for name in names if (found := split_name(name, True))]
    if first == last or not first or not last:
        return False
    stems: dict[str, set[str]] = {}
    for key, kind in first:
        stems.setdefault(key, set()).add(split_extension(kind)[0])
    several = set().union(*stems.values())
    if len(stems) > 1 and len(several) > 1 and all(len(own) == 1 for own in stems.values()):
        return True
    return len(first) > _FEW and _shared(first) < 2 and _shared(last) >= _OFTEN * _shared(first)


def _shared(found: list[tuple[str, str]]) -> float:
    """In how many samples a kind of member is, on average."""
    return len(set(found)) / len({kind for _, kind in found})


def samples_of(
    members: Iterable[tuple[str, Any]], last_dot: bool, unused: Callable[[str], None] = lambda name: None
) -> Iterator[Sample]:
    """The samples of an archive; one with two members of a kind has a problem.

    Args:
        members: Names and open files.
        last_dot: Whether keys end at the last dot.
        unused: Told the names of members that have no extension.
    """
    sample: Sample | None = None
    for name, file in members:
        found = split_name(name, last_dot)
        if found is None:
            unused(name)
            continue
        key, kind = found
        if sample is not None and sample.key != key:
            yield sample
            sample = None
        sample = sample or Sample(key)
        if kind in sample.members:
            sample.problem = f"two of its members are called {key}.{kind}"
        else:
            sample.members[kind] = file.read()
    if sample is not None:
        yield sample
