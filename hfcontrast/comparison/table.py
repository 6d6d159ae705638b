"""The table of a comparison: the figures of its runs, as data, as Markdown and on the screen."""

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..atomic import json_text, write_bytes, write_text, writing
from ..console import plain_console
from ..evaluation.counts import counted, told_labels, told_numbers
from ..evaluation.registry import figures_of
from ..evaluation.verdict import told_answers
from .grid import grid_markdown, grids_of
from .heat_map import heat_map
from .measured import told_trained_on, unequal_evaluations
from .plan import PlannedRun, unequal_settings
from .rows import baseline_rows, recipe_rows, verdicts

COSTS = {
    "images_per_second": ("images/s", "{:,.0f}".format),
    "peak_memory": ("peak memory, MiB", lambda size: f"{size / 2**20:,.0f}"),
}
SHOWN = "compare"  # where figures are shown, as evaluators declare it


def columns_of(rows: Iterable[dict[str, Any]]) -> dict[str, tuple[str, Callable[[float], str]]]:
    """The columns of rows: the heading of each and how its figures read, by key; figures as evaluators declare them, then costs."""
    keys = [key for row in rows for key in row]
    figures = {
        key: figure for key, (_, figure) in figures_of(keys).items() if SHOWN in figure.shown_in or figure.headline
    }
    found = {key: (figure.heading, figure.bare) for key, figure in figures.items()}
    return found | {key: cost for key, cost in COSTS.items() if key in keys}


def summarize(runs: Sequence[PlannedRun], overrides: Sequence[str], grid: bool = False) -> dict[str, Any]:
    """A comparison as JSON.

    Args:
        runs: The runs.
        overrides: The overrides of all.
        grid: Whether pairs of recipes are among the runs.

    Returns:
        ``overrides``; ``unequal``: the settings that differ between the runs and make the comparison less than fair;
        ``rows``: chance, raw pixels, untrained encoders, starting points (of runs from released weights), then every recipe, each with
        the ``seeds`` that were evaluated, those that ``failed`` or are ``unfinished``, its ``recipe_hashes``, and for each figure ``mean``, ``std`` (over seeds; None for
        one) and ``values`` by seed;
        ``runs``: for each its name, folder, seed, recipe hash, result and error;
        ``grids``, where there are pairs: as ``grid.grids_of`` makes them.
    """
    runs = [copy.copy(run) for run in runs]  # another may be finished meanwhile, where several train at once
    rows = baseline_rows(runs) + recipe_rows(runs)
    single = list(dict.fromkeys(run.name for run in runs if run.name == run.file.stem))
    return {
        "overrides": list(overrides),
        "unequal": unequal_settings(runs) + unequal_evaluations(runs),
        "rows": rows,
        "runs": [
            {
                "name": run.name,
                "folder": str(run.folder),
                "seed": run.seed,
                "recipe_hash": run.hash,
                "result": run.result,
                "error": run.error,
            }
            for run in runs
        ],
        **({"grids": grids_of(rows, single)} if grid else {}),
    }


def told_of(cell: dict[str, Any] | None) -> str:
    """The numbers behind a cell in words: of all its seeds, where they differ; empty where they are not known."""
    return " or ".join(dict.fromkeys(told_numbers(numbers) for numbers in (cell or {}).get("counts", ())))


def numbers_by_column(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The different numbers behind the figures of each column, in words; rows of which they are not known say nothing."""
    return {
        column: list(dict.fromkeys(told for row in rows if (told := told_of(row.get(column)))))
        for column in columns_of(rows)
        if column not in COSTS
    }


def table_cells(summary: dict[str, Any], digits: int = 8) -> tuple[list[str], list[list[str]]]:
    """The table as texts: its headings and its rows; columns without a figure are left out.

    Figures behind which different numbers are (recall among 8 images and among 40) have columns of their own, whose headings say so.

    Args:
        summary: What :func:`summarize` returned.
        digits: How much of a recipe's hash is shown.
    """
    rows = summary["rows"]
    several = {column: told for column, told in numbers_by_column(rows).items() if len(told) > 1}
    unknown = {column: [""] * any(row.get(column) and not told_of(row[column]) for row in rows) for column in several}
    shown = [
        (column, heading + (f" ({told})" if told else ""), write, told)
        for column, (heading, write) in columns_of(rows).items()
        for told in (several[column] + unknown[column] if column in several else [None])
    ]
    cells = []
    for row in rows:
        line = [row["name"]]
        for column, _, write, told in shown:
            found = row.get(column)
            line.append(_cell(found if told is None or told_of(found) == told else None, write))
        seeds = [_listed(row["seeds"])] if row["seeds"] else []
        seeds += [f"{state}: {_listed(row[state])}" for state in ("failed", "unfinished") if row.get(state)]
        hashes = [text[:digits] for text in row.get("recipe_hashes", [])]
        line += ["–" if row["kind"] in ("chance", "raw_pixels") else "; ".join(seeds), ", ".join(hashes) or "–"]
        cells.append(line)
    return ["", *(heading for _, heading, *_ in shown), "seed", "recipe hash"], cells


def _listed(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))


def _cell(found: dict[str, Any] | None, write: Callable[[float], str]) -> str:
    if found is None:
        return "–"
    return write(found["mean"]) + ("" if found["std"] is None else f" ± {write(found['std'])}")


def notes(summary: dict[str, Any]) -> list[str]:
    """What one has to know to read the table."""
    results = [run["result"] for run in summary["runs"] if run["result"]]
    lines = ["Scores are those of the last step." + _about_seeds(summary)]
    evaluated = (result["evaluated_on"] + told_labels(result.get("evaluation", {})) for result in results)
    lines += [f"Evaluated on {told}." for told in dict.fromkeys(evaluated)]
    lines += told_trained_on(summary["runs"])
    known = {column: told[0] for column, told in numbers_by_column(summary["rows"]).items() if len(told) == 1}
    titles = {column: figure.title for column, (_, figure) in figures_of(known).items()}
    lines += [
        f"{', '.join(titles[column] for column in known if known[column] == told)}: {told}."
        for told in dict.fromkeys(known.values())
    ]
    machines = (
        f"{r['device']}, {counted(r['processes'], 'processes')} with {counted(r['threads'], 'threads')}, {r['precision']}, "
        f"torch {r['versions'].get('torch')}"
        for r in results
    )
    lines += [f"Trained on {machine}." for machine in dict.fromkeys(machines)]
    found = [who for who, figure in figures_of(key for row in summary["rows"] for key in row).values() if who]
    if any(who.trains for who in found):
        lines += dict.fromkeys(who.caveat for who in found if who.caveat)
    lines += verdicts(summary["rows"])
    lines += _answers(results)
    if summary["unequal"]:
        lines.append(f"Not the same in all runs: {', '.join(summary['unequal'])}.")
    if summary["overrides"]:
        lines.append(f"Overrides: {' '.join(summary['overrides'])}")
    for run in summary["runs"]:
        if run["error"]:
            lines.append(f"{run['name']}, seed {run['seed']}, failed: {run['error']}")
    return lines


def _answers(results: Sequence[dict[str, Any]]) -> list[str]:
    """Which class chance answers; where that is not the same on all data, of each by itself."""
    by_data: dict[str, dict[str, str]] = {}
    for result in results:
        own = by_data.setdefault(result["evaluated_on"], {})
        own |= result.get("chance_answers", {}) | own
    several = any(own != answers for own in by_data.values() for answers in by_data.values())
    titles = {
        key: figure.title
        for key, (_, figure) in figures_of(key for own in by_data.values() for key in own).items()
        if SHOWN in figure.shown_in
    }
    told = [told_answers(answers, titles, data if several else "") for data, answers in by_data.items()]
    return [sentence for sentence in dict.fromkeys(told) if sentence]


def _about_seeds(summary: dict[str, Any]) -> str:
    several = any(len(row["seeds"]) > 1 for row in summary["rows"])
    return " Over several seeds: mean ± standard deviation." if several else ""


def as_markdown(summary: dict[str, Any]) -> str:
    """The table and its notes as Markdown."""
    headings, rows = table_cells(summary, digits=16)
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 3) + ["---"] * 2, *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    grids = "".join(f"\n{grid_markdown(grid)}" for grid in summary.get("grids", ()))
    return table + "\n\n" + "\n".join(f"- {line}" for line in notes(summary)) + "\n" + grids


def grid_file(grid: dict[str, Any]) -> str:
    """What the heat map of a grid is called."""
    return f"grid_{grid['key']}.png"


def write_table(summary: dict[str, Any], folder: Path) -> None:
    """Writes ``table.json`` and ``table.md``; readers see either the old or the new files."""
    texts = {"table.json": json_text(summary, indent=2) + "\n", "table.md": as_markdown(summary)}
    with writing(f"the table in {folder}"):
        for name, text in texts.items():
            write_text(folder / name, text)
        for grid in summary.get("grids", ()):
            write_bytes(folder / grid_file(grid), heat_map(grid))


def print_table(summary: dict[str, Any]) -> None:
    """Prints the table and its notes."""
    headings, rows = table_cells(summary)
    table = Table()
    for number, heading in enumerate(headings):
        is_text = number in (0, len(headings) - 2, len(headings) - 1)
        table.add_column(heading, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = plain_console(width=max(plain_console().width, 150))
    console.print(table)
    for line in notes(summary):
        console.print(line, soft_wrap=True)
