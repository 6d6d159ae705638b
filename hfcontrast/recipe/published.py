"""A recipe as it is published beside the encoder, with names in the place of this machine's paths; and where a run keeps its own."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..paths import is_address, local_path
from .path_keys import PATHS, SOURCE_PATHS, KeyPath
from .paths import holders
from .writing import as_yaml

if TYPE_CHECKING:
    from .recipe import Recipe

FILE = "recipe.yaml"
OWN_FILE = "checkpoints/recipe.yaml"  # what a run resumes by
FORMATS = frozenset(
    ["imagefolder", "parquet", "webdataset", "arrow", "json", "csv", "pandas", "text", "xml", "hdf5", "lance", "vortex"]
)  # of files of any place
BUILT_IN, IN_MEMORY = "builtin/", "memory/"
# What folders are called whatever is in them: the one above says more.
_COMMON = frozenset(
    [
        "train",
        "training",
        "test",
        "testing",
        "eval",
        "evaluation",
        "validation",
        "val",
        "valid",
        "validate",
        "dev",
        "data",
        "dataset",
        "images",
        "imgs",
    ]
)
_PATTERN = re.compile(r"[*?\[{]")
_OF_CACHE = re.compile(r"(?:models|datasets)--([^/]+)/snapshots/([0-9a-f]{40})/?$")  # folders of the Hub's cache
_ACCESS = re.compile(r"(?<=://)[^/@]*@|\?.*$")  # user and password, and the key of a signed address


class Replaced(NamedTuple):
    """A recipe without this machine's paths.

    Attributes:
        values: The settings.
        names: What stands in the place of a path, by the setting's key, as ``data.data_dir``.
        paths: The same by the paths themselves, as far as they are single ones.
    """

    values: dict[str, Any]
    names: dict[str, Any]
    paths: dict[str, str]

    def keys(self) -> list[str]:
        """The settings in which a name stands for a path that whoever repeats the run has to give."""
        return [key for key in self.names if key != "train.output"]

    def scrubbed(self, found: Any) -> Any:
        """Texts, within lists and mappings too, with the names in the place of these paths."""
        if isinstance(found, dict):
            return {name: self.scrubbed(inner) for name, inner in found.items()}
        if isinstance(found, list):
            return [self.scrubbed(inner) for inner in found]
        if isinstance(found, str):
            for path, name in sorted(self.paths.items(), key=lambda one: -len(one[0])):
                found = found.replace(path, name)
        return found


def own_recipe(folder: str | Path) -> Path:
    """The recipe by which a run of an output folder resumes: of runs of earlier versions, the published one, which has its paths."""
    own = Path(folder) / OWN_FILE
    return own if own.exists() else Path(folder) / FILE


def published_values(recipe: "Recipe") -> Replaced:
    """The settings of a recipe with names in the place of this machine's paths."""
    values = recipe.to_dict()
    names: dict[str, Any] = {}
    paths: dict[str, str] = {}
    for holder, where, _ in list(holders(values)):
        of_data = where[0] in ("data", "eval")
        base = str(holder.get("path") or values["data"]["path"])
        for key in SOURCE_PATHS if of_data else [path[-1] for path in PATHS if path[:-1] == where]:
            if (old := holder.get(key)) and (new := _public(key, old, base)) != old:
                names[".".join((*where, key))] = holder[key] = new
                if isinstance(old, str) and not is_address(old):
                    place = local_path(old)
                    forms = (old, place, os.path.normpath(place), os.path.abspath(place))
                    paths |= {form: new for form in forms if os.sep in form.strip(os.sep)}
    for section, inner in values.items():
        values[section] = _swept(inner, (section,), names)
    values["publish"] |= {
        "push_to": None,
        "push_strategy": "end",
        "private": None,
    }  # who repeats the run pushes to a place of their own
    for path_of_weights, revision in _revisions(recipe).items():
        holder = values
        for part in path_of_weights[:-1]:
            holder = holder[part]
        holder["revision"] = revision
    return Replaced(values, names, paths)


def published_yaml(recipe: "Recipe") -> str:
    """A recipe as it is published, with a comment on the names that stand in the place of paths."""
    public = published_values(recipe)
    told = ""
    if public.names:
        keys = ", ".join(public.names)
        told = (
            f"# In {keys} names stand for paths of the machine that trained, which {OWN_FILE} has there: set yours.\n"
        )
    return told + as_yaml(public.values)


def _swept(value: Any, where: KeyPath, names: dict[str, Any]) -> Any:
    """A section without the paths of this machine that are left in it, such as those among a method's own settings."""
    if isinstance(value, dict):
        return {name: _swept(inner, (*where, str(name)), names) for name, inner in value.items()}
    if isinstance(value, list):
        return [_swept(inner, (*where, str(number)), names) for number, inner in enumerate(value)]
    if isinstance(value, str) and os.path.isabs(os.path.expanduser(value)) and os.path.exists(local_path(value)):
        names[".".join(where)] = public_name(value)
        return names[".".join(where)]
    return value


def _revisions(recipe: "Recipe") -> dict[KeyPath, str]:
    """The commits of released weights that were read from a folder of the Hub's cache, by the key that names their revision."""
    found = {}
    for weights in recipe.backbone.weights.values():
        if origin := origin_on_hub(weights.name):
            found["backbone", *weights.argument.split(".")[:-1], "revision"] = origin[1]
    return found


def _public(key: str, value: Any, base: str) -> Any:
    """A path, pattern, or several of them without what is of this machine."""
    if isinstance(value, Mapping):
        return {name: _public(key, inner, base) for name, inner in value.items()}
    if isinstance(value, list):
        return [_public(key, inner, base) for inner in value]
    if is_address(value):
        return _ACCESS.sub("", value)
    if key in ("data_dir", "data_files") and base not in FORMATS and not _leaves(value):
        return value  # within the data set
    if key == "output":
        return local_name(value) if _leaves(value) else value
    if key in ("data_dir", "data_files"):
        return _pattern_name(value)
    return public_name(value)


def _leaves(path: str) -> bool:
    """Whether a path leads out of the folder that it is relative to."""
    return os.path.isabs(path) or path.startswith("~") or ".." in Path(path).parts


def public_name(path: str) -> str:
    """What a data set, weights or a tokenizer are called elsewhere: those of this machine by the name of their folder or file."""
    if is_address(path):
        return _ACCESS.sub("", path)
    if not is_local(path):
        return path
    origin = origin_on_hub(path)
    return origin[0] if origin else local_name(path)


def data_name(path: str, data_dir: str | None = None, data_files: Any = None, name: str | None = None, **_: Any) -> str:
    """What data are called on a card: by their name on the Hub, or by that of their folder or file.

    Args:
        path: As in a recipe's section of data.
        data_dir: The same.
        data_files: The same.
        name: The configuration.
        _: Other settings of the section, which do not matter.
    """
    if path.startswith(IN_MEMORY):
        return "a data set that was open in Python"
    if path in FORMATS:
        files = data_files
        while isinstance(files, dict | list):
            files = next(iter(files.values() if isinstance(files, dict) else files), None)
        given = data_dir or files
        return path if given is None else _public("data_dir", given, path)
    found = public_name(path)
    if is_local(path) and data_dir and not _leaves(data_dir):
        found = f"{found}/{data_dir}"
    return f"{found} ({name})" if name else found


def data_kind(path: str) -> Literal["hub", "built-in", "memory", "address", "local"]:
    """Where data are, by the path of a recipe's section; files of a format count as local, wherever they are."""
    if path.startswith(BUILT_IN):
        return "built-in"
    if path.startswith(IN_MEMORY):
        return "memory"
    if is_address(path):
        return "address"
    return "local" if path in FORMATS or (is_local(path) and not origin_on_hub(path)) else "hub"


def is_local(path: str) -> bool:
    """Whether a data set, weights or a tokenizer are a folder or file of this machine."""
    if is_address(path) or path in FORMATS or path.startswith((BUILT_IN, IN_MEMORY)):
        return False
    return path.startswith((".", "/", "~")) or os.path.isabs(path) or os.path.exists(local_path(path))


def origin_on_hub(path: str) -> tuple[str, str] | None:
    """The name and the commit on the Hub of a folder in its cache; None for any other path."""
    found = _OF_CACHE.search(os.path.abspath(local_path(path)).replace(os.sep, "/"))
    return (found[1].replace("--", "/"), found[2]) if found else None


def local_name(path: str) -> str:
    """The last part of a path; of one such as ``photos/train`` the last two, as far as they are not the home folder."""
    place = Path(os.path.abspath(local_path(path)))
    above = place.parent
    private = {Path.home(), *Path.home().parents}
    if place.name.lower() in _COMMON and above not in private and above.name:
        return f"{above.name}/{place.name}"
    return place.name or "data"


def _pattern_name(pattern: str) -> str:
    """A path without the folders that it is in, a pattern from its first folder with a wildcard on."""
    parts = Path(pattern).parts
    first = next((number for number, part in enumerate(parts) if _PATTERN.search(part)), None)
    return local_name(pattern) if first is None or os.path.exists(local_path(pattern)) else "/".join(parts[first:])
