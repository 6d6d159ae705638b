"""Precedence of settings that are given in several places: the command line, then the recipe, then the file that recipes share."""

from pathlib import Path

from ..errors import RecipeError
from .checking import Problem
from .reading import Document, read_file
from .renamed import rename_keys

SHARED = "common.yaml"  # the file beside recipes that `compare` reads for the settings that they share
# Several ways to set one thing: one of them, where it takes precedence, removes the other.
_ALTERNATIVES = (("train", "epochs", "steps", "minutes"), ("optim", "warmup_epochs", "warmup_steps", "warmup_share"))
_WHOLE = {"backbone"}  # settings of one architecture mean nothing to another


def is_shared(file: Path) -> bool:
    """Whether a file is one that the recipes beside it share: it is called ``common.yaml`` and names no method."""
    if file.name != SHARED or not file.is_file():
        return False
    try:
        return "method" not in read_file(file).values
    except RecipeError:
        return True  # said where it is used


def shared_beside(recipe: str | Path) -> Path | None:
    """The file that the recipes of a recipe's folder share; None without one."""
    beside = Path(recipe).parent / SHARED
    return beside if is_shared(beside) else None


def add_shared(document: Document, shared: Document) -> None:
    """Fills in what a recipe does not give: ``section.key`` by ``section.key``, each as a whole, and a backbone as a whole.

    Args:
        document: The recipe, its keys by today's names.
        shared: The file that it shares with others.

    Raises:
        RecipeError: The shared file names a method.
    """
    if "method" in shared.values:
        raise RecipeError(
            f"{shared.place(('method',))}: method: a file that recipes share has none: leave it to each recipe"
        )
    rename_keys(shared)
    taken: list[tuple[str, ...]] = []
    for section, values in shared.values.items():
        own = document.values.get(section)
        if own is None:
            document.values[section] = values
            taken.append((section,))
        elif isinstance(own, dict) and isinstance(values, dict) and section not in _WHOLE:
            given = {name for name in own if own[name] is not None}
            for name, value in values.items():
                if name not in own and not _others(section, name) & given:
                    own[name] = value
                    taken.append((section, name))
    document.places |= {
        path: place for path, place in shared.places.items() if any(path[: len(start)] == start for start in taken)
    }
    document.renamed = shared.renamed | document.renamed
    document.conflicts += shared.conflicts
    document.places |= {path: shared.place(path) for path, _ in shared.conflicts}


def prefer_overrides(document: Document) -> None:
    """Removes from the file what the command line sets in another way."""
    for section, *names in _ALTERNATIVES:
        values = document.values.get(section)
        if not isinstance(values, dict):
            continue
        set_here = [name for name in names if (section, name) in document.overridden and values.get(name) is not None]
        if set_here:
            for name in names:
                if name not in set_here:
                    values.pop(name, None)


def refuse_without_the_rest(problems: list[Problem], recipe: str | Path) -> None:
    """Where a section is missing that is in another file, says this alone, as other problems may follow from it.

    Raises:
        RecipeError: The recipe needs the file that those beside it share, or is that file.
    """
    missing = {path[0] for path, text in problems if len(path) == 1 and text.startswith("missing")}
    if not missing or (shared := shared_beside(recipe)) is None:
        return
    if "method" in missing and is_shared(Path(recipe)):
        others = sorted(item for item in shared.parent.glob("*.y*ml") if item.name != SHARED)
        raise RecipeError(
            f"{recipe}: this is the part that the recipes of its folder share, not a recipe: train one of them with it, such as "
            f"{others[0] if others else 'RECIPE'} --common {recipe}"
        )
    raise RecipeError(
        f"{recipe}: add --common {shared}: the recipes of this folder share the settings in it, which compare reads by itself"
    )


def _others(section: str, name: str) -> set[str]:
    """The other ways to say what a setting says."""
    found = next((names for part, *names in _ALTERNATIVES if part == section and name in names), [])
    return {*found} - {name}
