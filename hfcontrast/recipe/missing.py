"""The message for a recipe file that does not exist, with the one that was probably meant."""

import difflib
from pathlib import Path

from .named import nearest_shipped, shipped_recipes

_SHOWN = 12  # names of recipes in one sentence
_RECIPES = "recipes"  # the folder that recipes are kept in


def missing(file: Path) -> str:
    """Says that a recipe is not there, and which one was probably meant.

    Args:
        file: The recipe, or a folder, as the user has named it.
    """
    if file.is_dir():
        names = _listed(_recipes_in(file))
        hint = (
            f"name one of its recipes: {names}"
            if names
            else f"there are no recipes in it; a folder of images is trained on with --images {file}"
        )
        return f"{file}: is a folder, expected a recipe file; {hint}"
    text, folder = f"{file}: no such recipe", file.parent
    local = folder.is_dir() and any(_nearest(file, _recipes_in(there)) for there in (folder, folder / _RECIPES))
    if not local and (shipped := [recipe.name for recipe in shipped_recipes().get(file.as_posix(), [])]):
        return f"{file} is a folder of shipped recipes; name one of them: {', '.join(shipped)}"
    if not local and (meant := nearest_shipped(str(file))):
        return f"{text}; did you mean the shipped recipe {meant}? `hfcontrast recipes` lists them"
    if not folder.is_dir():
        return f"{text}; there is no folder {folder}"
    folders = [folder, folder / _RECIPES]
    for there in map(_recipes_in, folders):
        if near := _nearest(file, there):
            return f"{text}; did you mean {near}?"
    for place in folders:
        if names := _listed(_recipes_in(place)):
            return f"{text}; recipes in {place}: {names}"
    return f"{text}; there are no recipes in {folder}; `hfcontrast recipes` lists the shipped ones"


def missing_shared(file: Path) -> str:
    """Says that a file with settings that recipes share is not there, and which one was probably meant, where its name is near.

    Args:
        file: The file, or a folder, as the user has named it.
    """
    if file.is_dir():
        return f"{file}: is a folder, expected a file with settings that recipes share"
    by_stem = {item.stem: item for item in _recipes_in(file.parent)}
    near = difflib.get_close_matches(file.stem, by_stem, n=1, cutoff=0.7)
    hint = f"; did you mean {by_stem[near[0]]}?" if near else ", expected one with settings that recipes share"
    return f"{file}: no such file{hint}"


def _recipes_in(folder: Path) -> list[Path]:
    return sorted(item for item in folder.glob("*.y*ml") if not item.name.startswith("."))


def _nearest(file: Path, there: list[Path]) -> Path | None:
    """The recipe of the same name, else one that begins with what was typed, else one that is spelled almost so."""
    ending = difflib.get_close_matches(file.suffix.lower(), (".yaml", ".yml"), n=1)
    typed = file.stem if ending else file.name
    by_stem = {item.stem: item for item in there}
    begins = [stem for stem in by_stem if stem.lower().startswith(typed.lower())]
    begins.sort(key=lambda stem: (stem != typed, not stem[len(typed) :].startswith(("_", "-")), stem))
    near = begins or difflib.get_close_matches(typed, by_stem, n=1, cutoff=0.5)
    return by_stem[near[0]] if near else None


def _listed(there: list[Path]) -> str:
    more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    return ", ".join(item.name for item in there[:_SHOWN]) + more
