"""Plugins: what the installed distributions declare as entry points, read line by line so that an invalid line does not hide the others; and their import."""

import difflib
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any

from .errors import PluginError
from .signals import Interrupted

METHODS = "hfcontrast.methods"
EVALUATORS = "hfcontrast.evaluators"
_FILE = "entry_points.txt"
_SOURCE = Path(__file__).resolve().parents[1] / "pyproject.toml"  # of an editable installation
_VALUE = re.compile(r"(?P<module>\w+(\.\w+)*)\s*:\s*(?P<attribute>\w+(\.\w+)*)\s*(\[.*\])?")


class StillImporting(PluginError):
    """A plugin's package is being imported at this moment, and has not come to the class yet."""


@dataclass(frozen=True)
class PluginEntry:
    """A method or evaluator that is installed, as its distribution declares it.

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
    def module(self) -> str:
        """The module that its class is in."""
        return self.value.partition(":")[0].strip()

    @property
    def origin(self) -> str:
        """The distribution and its version, as messages name them."""
        return " ".join(filter(None, (self.distribution, self.version))) or "this process"


def not_installed(kind: str, name: str, known: Iterable[str]) -> str:
    """Says that no plugin has a name, which one was probably meant, and which there are.

    Args:
        kind: ``method`` or ``evaluator``.
        name: The name that was asked for.
        known: Those of the installed ones.
    """
    by_lower = {item.lower(): item for item in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f"did you mean '{by_lower[near[0]]}'? Installed" if near else "installed"
    return (
        f"no {kind} '{name}' is installed; {hint}: {', '.join(by_lower.values()) or 'none'}. Others come with the Python package that "
        "has them: pip install it"
    )


def declared(group: str) -> dict[str, PluginEntry]:
    """Returns what all distributions on the path declare in a group, by name; imports none of it.

    A line that is not an entry point is an entry with a problem; so is a name that two distributions claim.

    Args:
        group: The group of entry points, such as ``METHODS``.
    """
    claims: dict[str, dict[tuple[str, str], PluginEntry]] = {}
    malformed = []
    for item in distributions():
        for entry in _of_distribution(item, group):
            if entry.problem:
                malformed.append(entry)
                continue
            # One distribution can be found twice, as an editable install beside its egg-info: that is not a clash.
            known = (re.sub(r"[-_.]+", "-", entry.distribution).lower(), entry.value)
            claims.setdefault(entry.name, {}).setdefault(known, entry)
    entries = {name: _one_of(list(found.values())) for name, found in claims.items()}
    for entry in malformed:  # under a name of its own where another distribution has the name
        name = f"{entry.name} of {entry.distribution}" if entry.name in entries else entry.name
        entries[name] = entry
    return entries


def undeclared(group: str, entries: Iterable[str], source: Path = _SOURCE) -> str | None:
    """Says which plugins of hfcontrast's own source the installed package does not declare, as it was installed before they were added.

    Args:
        group: The group of entry points.
        entries: The names of the installed ones.
        source: The ``pyproject.toml`` of the source; a package that is installed by a wheel has none beside it.

    Returns:
        A sentence; None where nothing is missing.
    """
    try:
        project = tomllib.loads(source.read_text(encoding="utf-8"))["project"]
        known = project["entry-points"][group] if project["name"] == "hfcontrast" else {}
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not (missing := sorted(set(known) - set(entries))):
        return None
    return (
        f"the installed hfcontrast is older than its source in {source.parent} and does not declare the {group.rpartition('.')[2]} "
        f"{', '.join(missing)}, which are left out: install it again (pip install -e . in that folder)"
    )


def _of_distribution(item: Distribution, group: str) -> list[PluginEntry]:
    try:
        text = item.read_text(_FILE) or ""
    except UnicodeDecodeError as error:
        text = bytes(error.object).decode("utf-8", errors="replace")
        if f"[{group}]" in text:
            problem = f"{_FILE} of {' '.join(_who(item))} is not UTF-8 ({error}); reinstall or uninstall it"
            return [PluginEntry(f"({_FILE})", "", *_who(item), problem)]
        return []
    except OSError:  # an unreadable distribution has no plugins
        return []
    if f"[{group}]" not in text or _is_hidden(item, text):
        return []
    who = _who(item)
    return [_parsed(line, *who) for line in _lines_of_group(text, group)]


def _is_hidden(item: Distribution, text: str) -> bool:
    """Whether another version of the distribution comes first on the path, as imports see it.

    Of one version what pip has installed counts, and not an egg-info beside the source, which may be of an earlier day.
    """
    try:
        found = list(distributions(name=item.metadata["Name"]))
        installed = (other for other in found if other.version == found[0].version and other.read_text("METADATA"))
        return (next(installed, found[0]).read_text(_FILE) or "") != text
    except (IndexError, KeyError, ValueError, TypeError, AttributeError):  # it does not say its name
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


def _lines_of_group(text: str, group: str) -> list[str]:
    lines, inside = [], False
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            inside = line == f"[{group}]"
        elif inside and line and not line.startswith(("#", ";")):
            lines.append(line)
    return lines


def _parsed(line: str, who: str, version: str) -> PluginEntry:
    name, equals, value = (part.strip() for part in line.partition("="))
    found = _VALUE.fullmatch(value)
    names = ".".join((found["module"], found["attribute"])).split(".") if found else []
    if name and equals and names and all(part.isidentifier() for part in names):
        return PluginEntry(name, value, who, version)
    problem = (
        f"its entry point {line!r} is malformed, expected NAME = MODULE:CLASS; repair it, or uninstall {who} {version}"
    )
    return PluginEntry(name or line, value, who, version, problem.rstrip())


def _one_of(entries: list[PluginEntry]) -> PluginEntry:
    first = entries[0]
    if len(entries) == 1:
        return first
    who = " and ".join(f"{entry.origin} ({entry.value})" for entry in entries)
    problem = f"the name '{first.name}' is claimed by {who}; uninstall all but one of them"
    return PluginEntry(first.name, first.value, first.distribution, first.version, problem)


def load(entry: PluginEntry, kind: str) -> Any:
    """Imports the object that an entry point names, and nothing else.

    Args:
        entry: The entry.
        kind: What it is called in errors, such as "method".

    Raises:
        StillImporting: It is asked for while its own package is being imported.
        PluginError: It has a problem, or its import fails.
    """
    if entry.problem:
        raise PluginError(f"{kind} '{entry.name}' cannot be used: {entry.problem}")
    what = described(entry, kind)
    try:
        return EntryPoint(entry.name, entry.value, "").load()
    except (KeyboardInterrupt, Interrupted):  # the user's wish, and no fault of the plugin that was being imported
        raise
    except BaseException as error:  # anything that a plugin raises on import, sys.exit() included
        if isinstance(error, ImportError | AttributeError) and _is_being_imported(entry, error):
            raise StillImporting(
                f"{what} is being imported at this moment: ask for it when that is done ({error})"
            ) from error
        told = _text_of(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {_text_of(error)}"
        raise PluginError(
            f"{what} cannot be imported: {told}. Repair or uninstall {entry.distribution or 'it'}"
        ) from error


def described(entry: PluginEntry, kind: str) -> str:
    """How messages name a plugin: its kind, name, distribution and class."""
    return f"{kind} '{entry.name}' of {entry.origin} ({entry.value})"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # also of an error's own code
        return "an error that cannot say what it is"


def _is_being_imported(entry: PluginEntry, error: ImportError | AttributeError) -> bool:
    """Whether a class is missing only because the import that leads to it has come no further yet.

    That is so where a package imports hfcontrast, which looks for all plugins, that package's own among them.
    """
    parts = entry.module.split(".")
    modules = [sys.modules.get(".".join(parts[: number + 1])) for number in range(len(parts))]
    if any(getattr(getattr(module, "__spec__", None), "_initializing", False) for module in modules):
        return True
    text = _text_of(error)
    return "partially initialized module" in text and "module 'hfcontrast" not in text
