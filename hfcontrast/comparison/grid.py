"""A comparison as a grid: every recipe by itself and every pair of recipes, in which the settings of both hold; as a table and a heat map."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..evaluation.registry import figures_of
from ..recipe.precedence import shared_beside
from ..recipe.reading import read_file
from ..recipe.renamed import rename_keys

SIGN = "+"  # between the names of a pair


def pairs_of(files: Sequence[Path], shared: Path | None) -> list[tuple[str, Path, list[str]]]:
    """The pairs of a grid: what each is called, the file of the first recipe, and the settings of the second as overrides of it.

    Args:
        files: Recipe files.
        shared: The file with what all share, where one is named.

    Raises:
        RecipeError: There is but one recipe, the two of a pair set a key to different values, or they do not share their common settings.
    """
    if len(files) < 2:
        raise RecipeError("--grid trains every pair of recipes, and there is only one: name several")
    return [
        (f"{first.stem}{SIGN}{second.stem}", first, _added(first, second, shared))
        for first, second in itertools.combinations(files, 2)
    ]


def _added(first: Path, second: Path, shared: Path | None) -> list[str]:
    """The settings of a recipe that another one does not have, as overrides."""
    if shared is None and shared_beside(first) != shared_beside(second):
        raise RecipeError(f"--grid: {first} and {second} have different common settings: name one file with --common")
    there, new = (dict(_leaves(_values(file))) for file in (first, second))
    if different := [key for key in new if key in there and new[key] != there[key]]:
        raise RecipeError(
            f"--grid: both {first} and {second} set {different[0]}, to {there[different[0]]} and {new[different[0]]}: a pair has the settings of "
            "both, so leave it to one of them"
        )
    return [f"{key}={value}" for key, value in new.items() if key not in there]


def _values(file: Path) -> dict[str, Any]:
    document = read_file(file)
    rename_keys(document)
    return document.values


def _leaves(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        key = f"{above}{name}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, json.dumps(value)


def grids_of(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The grids of a comparison's rows, one for each headline figure that is a share.

    Args:
        rows: Of the table.
        names: The names of the recipes.

    Returns:
        For each ``key`` and ``title`` of the figure, the ``names``, ``values`` by row and column (None: not known) in the figure's own
        units, symmetric; ``means`` of the rows; and ``baselines``, the values of what is evaluated beside the recipes.
    """
    by_name = {row["name"]: row for row in rows if row["kind"] == "recipe"}
    figures = {
        key: figure
        for key, (_, figure) in figures_of(key for row in rows for key in row).items()
        if figure.headline and figure.kind == "share"
    }

    def value(key: str, first: str, second: str) -> float | None:
        found = (
            by_name.get(name) for name in (first, f"{first}{SIGN}{second}", f"{second}{SIGN}{first}")[first != second :]
        )
        return next((row[key]["mean"] for row in found if row and key in row), None)

    grids = []
    for key, figure in figures.items():
        values = [[value(key, first, second) for second in names] for first in names]
        if any(one is not None for line in values for one in line):
            grids.append(
                {
                    "key": key,
                    "title": figure.heading,
                    "names": list(names),
                    "values": values,
                    "means": [_mean(line) for line in values],
                    "baselines": {
                        row["name"]: row[key]["mean"] for row in rows if row["kind"] != "recipe" and key in row
                    },
                }
            )
    return grids


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def grid_cells(grid: dict[str, Any]) -> list[list[str]]:
    """The texts of a grid: a line of headings, then the lines, each with its name and its mean."""
    write = figures_of([grid["key"]])[grid["key"]][1].bare
    lines = [["", *grid["names"], "average"]]
    for name, values, mean in zip(grid["names"], grid["values"], grid["means"], strict=True):
        lines.append([name, *("–" if value is None else write(value) for value in [*values, mean])])
    return lines


def told_grid(grid: dict[str, Any]) -> str:
    """What a grid shows, with the baselines, in a line."""
    write = figures_of([grid["key"]])[grid["key"]][1].bare
    beside = ", ".join(f"{name} {write(value)}" for name, value in grid["baselines"].items())
    return f"{grid['title']}; on the diagonal one recipe, beside it two" + (f" ({beside})" if beside else "")


def grid_markdown(grid: dict[str, Any]) -> str:
    """A grid as Markdown."""
    headings, *lines = grid_cells(grid)
    table = [headings, ["---"] + ["---:"] * (len(headings) - 1), *lines]
    return f"{told_grid(grid)}:\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in table) + "\n"
