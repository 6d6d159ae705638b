"""`hfcontrast recipes`: the shipped recipes, or the text of one."""

import argparse
import sys

SUMMARY = "list the shipped recipes, or show one"
_SHOW = "show"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    parser.add_argument(
        "what", metavar="FOLDER", nargs="?", help="list those of one folder, such as photos; `show NAME` prints one"
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="with show: the recipe, such as photos/simclr")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(args: argparse.Namespace) -> None:
    """Runs it."""
    from ..errors import HFContrastError
    from ..recipe.named import shipped_recipes

    if args.what == _SHOW:
        if args.name is None:
            raise HFContrastError("recipes show needs the NAME of a recipe, such as photos/simclr")
        show(args.name)
        return
    if args.name is not None:
        raise HFContrastError(
            f"recipes {args.what} {args.name}: to see one of them write `hfcontrast recipes show NAME`"
        )
    found = shipped_recipes()
    if args.what is not None:
        folder = args.what.strip("/").removeprefix("recipes").strip("/")
        if folder not in found or not folder:
            known = ", ".join(name for name in found if name)
            raise HFContrastError(
                f"there is no folder of recipes called {args.what!r}; there are {known}; `hfcontrast recipes show NAME` prints one"
            )
        found = {folder: found[folder]}
    print_json(found) if args.json else print_tables(found)


def show(name: str) -> None:
    """Prints the text of a recipe, and where it is on stderr.

    Raises:
        RecipeError: There is none of this name.
    """
    from ..recipe.named import recipe_file
    from ..recipe.reading import read_file

    file = recipe_file(name)
    read_file(file)  # which says what is wrong with it, and which was probably meant
    print(file.read_text(encoding="utf-8"), end="")
    print(file, file=sys.stderr)


def print_json(found: dict) -> None:
    """Prints what there is, for programs."""
    from ..atomic import json_text

    recipes = [recipe for recipes in found.values() for recipe in recipes]
    rows = [{"name": one.name, "summary": one.summary, "cost": one.cost, "file": str(one.file)} for one in recipes]
    print(json_text(rows, indent=2))


def print_tables(found: dict) -> None:
    """Prints a table for each folder."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from ..console import plain_console
    from ..recipe.named import FOLDERS

    console = plain_console()
    for folder, recipes in found.items():
        title = FOLDERS.get(folder, folder)
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
        table.add_column("recipe", no_wrap=True)
        table.add_column("what it trains")
        table.add_column("takes")
        for one in recipes:
            table.add_row(one.name, one.summary, one.cost)
        console.print(table)
    console.print(
        "hfcontrast recipes show NAME prints one; hfcontrast train NAME [key.path=value ...] trains by it; "
        "hfcontrast train --images FOLDER chooses one for a folder of images."
    )
