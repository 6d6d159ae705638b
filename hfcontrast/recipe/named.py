"""Recipes by name: those that are shipped are found wherever the package is installed, and described in a line each."""

import difflib
import logging
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from ..console import warn_once
from ..paths import local_path

logger = logging.getLogger(__name__)

FOLDER = "recipes"  # of a clone; in the wheel it is in the package
ENDINGS = (".yaml", ".yml")
SHARED = "common.yaml"  # which is no recipe
# The folders in the order in which they are listed, each with what its recipes are for.
FOLDERS = {
    "photos": "your own images: hfcontrast train --images FOLDER chooses among these",
    "": "generated images, in minutes on a CPU: to see a method run",
    "cifar10": "twelve methods on CIFAR-10 under one encoder and one budget, for hfcontrast compare",
    "comparison": "all methods under one encoder and one budget, for hfcontrast compare",
    "comparison/augmentations": "SimCLR with one augmentation, for hfcontrast compare --grid",
    "imagenet": "the papers' settings on ImageNet-1k",
    "web_pairs": "the papers' settings on images with text from the web",
}
_TAKES = re.compile(r"\bTakes ([^.(]+)")
_BRACKETS = re.compile(r" *\([^)]*\)")
_PROCESSES = re.compile(r"--num_processes (\d+)")
_LENGTH = re.compile(r"^  (epochs|steps|minutes): *([\d_.]+)", re.M)


@dataclass(frozen=True)
class ShippedRecipe:
    """What is said of a shipped recipe in a list.

    Attributes:
        name: What it is called on the command line, such as ``photos/simclr``.
        summary: The first sentence of the comment at its top, up to a colon, without what is in brackets.
        cost: How long it takes, or on how many GPUs; empty where that is not said.
        file: The file.
    """

    name: str
    summary: str
    cost: str
    file: Path


def recipe_file(given: str | Path) -> Path:
    """The file of a recipe that is named by a path or by the name of a shipped one.

    A file of the working folder goes before a shipped recipe of its name, which is said. A path that leads nowhere stays what it is.

    Args:
        given: A path; or a name such as ``photos/simclr``, or as ``simclr`` for the shipped recipe of that method.
    """
    file = Path(local_path(str(given)))
    own = next((path for path in (file, *(file.with_name(file.name + end) for end in ENDINGS)) if _is_file(path)), None)
    shipped = shipped_file(str(given))
    if own is None:
        return shipped or file
    if shipped is not None and not file.suffix and not own.samefile(shipped):
        warn_once(logger, f"{given} is read from the file {own}, and not the shipped recipe {name_of(shipped)}")
    return own


def shipped_file(name: str) -> Path | None:
    """The file of the shipped recipe of a name; None where there is none.

    Args:
        name: Its path in the folder of recipes, with or without its ending; or with the name of its method in the place of its own.
    """
    folder = shipped_folder()
    path = PurePosixPath(name.replace("\\", "/"))
    if path.parts[:1] == (FOLDER,):
        path = path.relative_to(FOLDER)
    if folder is None or not path.name or path.is_absolute() or ".." in path.parts or "\0" in name:
        return None
    if path.suffix in ENDINGS:
        return _existing(folder / path.with_suffix(".yaml"))
    if exact := _existing(folder / path.parent / f"{path.name}.yaml"):
        return exact
    begin_so = sorted((folder / path.parent).glob(f"{_literal(path.name)}_*.yaml"), key=lambda file: len(file.stem))
    return next((file for file in begin_so if _method_of(file) == path.name), None)


def shipped_folder(name: str = FOLDER) -> Path | None:
    """The folder of the shipped recipes, or another one of that kind: in the package, or beside it in a clone; None where there is neither."""
    package = Path(__file__).parents[1]
    beside = package.parent
    places = [package / name, *([beside / name] if (beside / "pyproject.toml").is_file() else [])]
    return next((place for place in places if place.is_dir()), None)


def shipped_recipes() -> dict[str, list[ShippedRecipe]]:
    """All shipped recipes, by the folders that they are in."""
    folder = shipped_folder()
    if folder is None:
        return {}
    inner = sorted({file.parent.relative_to(folder).as_posix() for file in folder.rglob("*.yaml")} - {*FOLDERS, "."})
    found = {
        name: [describe(file) for file in sorted((folder / name).glob("*.yaml")) if file.name != SHARED]
        for name in (*FOLDERS, *inner)
    }
    return {name: recipes for name, recipes in found.items() if recipes}


def describe(file: Path) -> ShippedRecipe:
    """What the comment at a recipe's top says of it."""
    text = file.read_text(encoding="utf-8")
    comment = [line.removeprefix("#").strip() for line in text.split("\n\n")[0].splitlines() if line.startswith("#")]
    paragraph = " ".join(comment[: comment.index("") if "" in comment else None])
    summary = re.split(r"[.:](?: |$)", _BRACKETS.sub("", paragraph), maxsplit=1)[0]
    cost = ""
    if takes := _TAKES.search(paragraph):
        cost = takes[1].strip()
    elif processes := _PROCESSES.search("\n".join(comment)):
        length = _LENGTH.search(text)
        cost = f"{processes[1]} GPUs" + (f", {length[2]} {length[1]}" if length else "")
    return ShippedRecipe(name_of(file), summary, cost, file)


def name_of(file: Path) -> str:
    """What a shipped recipe is called: its path in the folder of recipes, without ending."""
    folder = shipped_folder()
    return file.relative_to(folder).with_suffix("").as_posix() if folder else file.stem


def nearest_shipped(name: str) -> str | None:
    """The name of the shipped recipe that was probably meant; None where none is near."""
    typed = name.removeprefix(f"{FOLDER}/").removesuffix(".yaml").removesuffix(".yml").lower()
    names = [recipe.name for recipes in shipped_recipes().values() for recipe in recipes]
    return next(iter(difflib.get_close_matches(typed, names, n=1, cutoff=0.75)), None)


@cache
def _method_of(file: Path) -> str:
    found = re.search(r"^method:\s*\n?\s*\{?name: *(\w+)", file.read_text(encoding="utf-8"), re.M)
    return found[1] if found else ""


def _existing(file: Path) -> Path | None:
    return file if _is_file(file) and file.name != SHARED else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a character that none can have
        return False


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
