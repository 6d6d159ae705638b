"""Entry points: which methods the installed distributions declare, read line by line, so that a bad line hides no other."""

import re
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions

GROUP = "hfcontrast.methods"
_FILE = "entry_points.txt"
_VALUE = re.compile(r"(?P<module>\w+(\.\w+)*)\s*:\s*(?P<attribute>\w+(\.\w+)*)\s*(\[.*\])?")


@dataclass(frozen=True)
class MethodEntry:
    """A method that is installed, as its distribution declares it.

    Args:
        name: What recipes call it.
        value: Where its class is: `module:Class`.
        distribution: The distribution that declares it; None for a class registered in this process.
        version: The version of the distribution.
        problem: Why it cannot be used, as far as that is known without an import; None when nothing is.
    """

    name: str
    value: str
    distribution: str | None = None
    version: str | None = None
    problem: str | None = None

    @property
    def origin(self) -> str:
        """The distribution and its version, as messages name them."""
        return " ".join(filter(None, (self.distribution, self.version))) or "this process"


def declared() -> dict[str, MethodEntry]:
    """Returns what all distributions on the path declare, by name; imports none of it.

    A line that is no entry point is an entry with a problem; so is a name that two distributions claim.
    """
    claims: dict[str, dict[tuple[str, str], MethodEntry]] = {}
    malformed = []
    for item in distributions():
        for entry in _of_distribution(item):
            if entry.problem:
                malformed.append(entry)
                continue
            # One distribution can be found twice, as an editable install beside its egg-info: that is no clash.
            known = (re.sub(r"[-_.]+", "-", entry.distribution).lower(), entry.value)
            claims.setdefault(entry.name, {}).setdefault(known, entry)
    entries = {name: _one_of(list(found.values())) for name, found in claims.items()}
    for entry in malformed:  # under a name of its own where the name is somebody else's, who can do nothing for it
        name = f"{entry.name} of {entry.distribution}" if entry.name in entries else entry.name
        entries[name] = entry
    return entries


def _of_distribution(item: Distribution) -> list[MethodEntry]:
    try:
        text = item.read_text(_FILE) or ""
    except UnicodeDecodeError as error:
        text = bytes(error.object).decode("utf-8", errors="replace")
        if f"[{GROUP}]" in text:
            problem = f"{_FILE} of {' '.join(_who(item))} is not UTF-8 ({error}); reinstall or uninstall it"
            return [MethodEntry(f"({_FILE})", "", *_who(item), problem)]
        return []
    except OSError:  # nobody's methods
        return []
    if f"[{GROUP}]" not in text or _is_hidden(item, text):
        return []
    who = _who(item)
    return [_parsed(line, *who) for line in _lines_of_group(text)]


def _is_hidden(item: Distribution, text: str) -> bool:
    """Whether another version of the distribution comes first on the path, as imports see it."""
    try:
        return (distribution(item.metadata["Name"]).read_text(_FILE) or "") != text
    except (PackageNotFoundError, KeyError, ValueError, TypeError, AttributeError):  # it does not say its name
        return False


def _who(item: Distribution) -> tuple[str, str]:
    """Name and version; what stands for them where a damaged installation does not say."""
    found = []
    for name, other in (("Name", f"a distribution without a name in {item.locate_file('')}"), ("Version", "")):
        try:
            found.append(item.metadata[name] or other)
        except (KeyError, TypeError, AttributeError):
            found.append(other)
    return found[0], found[1]


def _lines_of_group(text: str) -> list[str]:
    lines, inside = [], False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            inside = line == f"[{GROUP}]"
        elif inside and line and not line.startswith(("#", ";")):
            lines.append(line)
    return lines


def _parsed(line: str, who: str, version: str) -> MethodEntry:
    name, equals, value = (part.strip() for part in line.partition("="))
    found = _VALUE.fullmatch(value)
    names = ".".join((found["module"], found["attribute"])).split(".") if found else []
    if name and equals and names and all(part.isidentifier() for part in names):
        return MethodEntry(name, value, who, version)
    problem = (
        f"its entry point {line!r} is malformed, expected NAME = MODULE:CLASS; repair it, or uninstall {who} {version}"
    )
    return MethodEntry(name or line, value, who, version, problem.rstrip())


def _one_of(entries: list[MethodEntry]) -> MethodEntry:
    first = entries[0]
    if len(entries) == 1:
        return first
    who = " and ".join(f"{entry.origin} ({entry.value})" for entry in entries)
    problem = f"the name '{first.name}' is claimed by {who}; uninstall all but one of them"
    return MethodEntry(first.name, first.value, first.distribution, first.version, problem)
