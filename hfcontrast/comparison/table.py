"""The table of a comparison: the figures of its runs, as data, as Markdown and on the screen."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from ..atomic import json_text, write_text, writing
from ..console import plain_console
from ..evaluation.counts import told_labels, told_numbers
from ..evaluation.registry import figures_of
from .plan import PlannedRun, unequal_settings

COSTS = {
    "images_per_second": ("images/s", "{:,.0f}".format),
    "peak_memory": ("peak memory, MiB", lambda size: f"{size / 2**20:,.0f}"),
}
SHOWN = "compare"  # where figures are shown, as evaluators declare it


def columns_of(rows: Iterable[dict[str, Any]]) -> dict[str, tuple[str, Callable[[float], str]]]:
    """The columns of rows: the heading of each and how its figures read, by key; figures as evaluators declare them, then costs."""
    keys = [key for row in rows for key in row]
    figures = {key: figure for key, (_, figure) in figures_of(keys).items() if SHOWN in figure.shown_in}
    found = {key: (figure.heading, figure.bare) for key, figure in figures.items()}
    return found | {key: cost for key, cost in COSTS.items() if key in keys}


def summarize(runs: Sequence[PlannedRun], overrides: Sequence[str]) -> dict[str, Any]:
    """A comparison as JSON.

    Returns:
        ``overrides``; ``unequal``: the settings that differ between the runs and make the comparison less than fair;
        ``rows``: raw pixels, untrained encoders, starting points (of runs from released weights), then every recipe, each with
        the ``seeds`` that were evaluated, those that ``failed`` or are ``unfinished``, its ``recipe_hashes``, and for each figure ``mean``, ``std`` (over seeds; None for
        one) and ``values`` by seed;
        ``runs``: for each its name, folder, seed, recipe hash, result and error.
    """
    rows = _baselines(runs, "raw_pixels", "raw pixels")
    rows += _baselines([run for run in runs if not run.recipe.released_weights], "untrained", "untrained encoder")
    rows += _baselines([run for run in runs if run.recipe.released_weights], "starting_point", "starting point")
    for name in dict.fromkeys(run.name for run in runs):
        own = [run for run in runs if run.name == name]
        done = [run for run in own if run.result]
        figures = [{**run.result["scores"].get("trained", {}), **_costs(run.result)} for run in done]
        row = _row(name, "recipe", [run.seed for run in done], figures, [_counts(run.result) for run in done])
        row["failed"] = [run.seed for run in own if run.error]
        row["unfinished"] = [run.seed for run in own if not run.error and not run.result]
        row["recipe_hashes"] = [run.hash for run in own]
        rows.append(row)
    return {
        "overrides": list(overrides),
        "unequal": unequal_settings(runs),
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
    }


def _counts(result: dict[str, Any]) -> dict[str, Any]:
    """The numbers behind the figures of a run; none of one that an earlier version wrote."""
    return result.get("counts") or {}


def _costs(result: dict[str, Any]) -> dict[str, float | None]:
    return {name: result.get(name) for name in COSTS}


def _baselines(runs: Sequence[PlannedRun], kind: str, label: str) -> list[dict[str, Any]]:
    """A row for each different baseline; where there are several, it says whose."""
    groups: list[_Baseline] = []
    for run in runs:
        key = run.pixels() if kind == "raw_pixels" else run.untrained()
        seed = None if kind == "raw_pixels" else run.seed  # no seed changes pixels
        found = run.result["scores"] if run.result else {}
        scores = found.get(
            kind, found.get("untrained") if kind == "starting_point" else None
        )  # its name in older results
        # A method may build its encoder in a way of its own (CMC: one for each color view): the scores tell.
        fitting = (group for group in groups if group.key == key and group.agrees(seed, scores))
        if (group := next(fitting, None)) is None:
            groups.append(group := _Baseline(key))
        group.names[run.name] = None
        if scores is not None:
            group.scores.setdefault(seed, (run.seed, scores, _counts(run.result)))
    rows = []
    for group in (group for group in groups if group.scores):
        seeds, figures, counts = zip(*group.scores.values(), strict=True)
        name = label if len(groups) == 1 else f"{label} ({', '.join(group.names)})"
        rows.append(_row(name, kind, list(seeds), list(figures), list(counts)))
    return rows


@dataclass
class _Baseline:
    """Runs that share a baseline: by seed (None: any) the seed that it was evaluated with, its scores, and the numbers behind them."""

    key: str
    names: dict[str, None] = field(default_factory=dict)
    scores: dict[int | None, tuple[int, dict[str, float], dict[str, Any]]] = field(default_factory=dict)

    def agrees(self, seed: int | None, scores: dict[str, float] | None) -> bool:
        """Whether scores are those that are known for the seed."""
        if scores is None or seed not in self.scores:
            return True
        known = self.scores[seed][1]
        both = known.keys() & scores.keys()
        exact = [
            key for key, (who, figure) in figures_of(both).items() if who and who.of_pixels and figure.kind == "share"
        ]
        return all(abs(scores[key] - known[key]) <= 0.005 for key in exact)


def _row(
    name: str, kind: str, seeds: list[int], figures: list[dict[str, Any]], counts: list[dict[str, Any]]
) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "kind": kind, "seeds": seeds}
    for column in dict.fromkeys(key for found in figures for key in found):
        there = [place for place, found in enumerate(figures) if found.get(column) is not None]
        if values := [figures[place][column] for place in there]:
            std = statistics.stdev(values) if len(values) > 1 else None
            row[column] = {"mean": statistics.fmean(values), "std": std, "values": values}
            if numbers := [counts[place][column] for place in there if column in counts[place]]:
                row[column]["counts"] = numbers
    return row


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
        line += ["–" if row["kind"] == "raw_pixels" else "; ".join(seeds), ", ".join(hashes) or "–"]
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
    known = {column: told[0] for column, told in numbers_by_column(summary["rows"]).items() if len(told) == 1}
    titles = {column: figure.title for column, (_, figure) in figures_of(known).items()}
    lines += [
        f"{', '.join(titles[column] for column in known if known[column] == told)}: {told}."
        for told in dict.fromkeys(known.values())
    ]
    machines = (
        f"{r['device']}, {r['processes']} process(es) with {r['threads']} thread(s), {r['precision']}, "
        f"torch {r['versions'].get('torch')}"
        for r in results
    )
    lines += [f"Trained on {machine}." for machine in dict.fromkeys(machines)]
    found = [who for who, figure in figures_of(key for row in summary["rows"] for key in row).values() if who]
    if any(who.trains for who in found):
        lines += dict.fromkeys(who.caveat for who in found if who.caveat)
    if summary["unequal"]:
        lines.append(f"Not the same in all runs: {', '.join(summary['unequal'])}.")
    if summary["overrides"]:
        lines.append(f"Overrides: {' '.join(summary['overrides'])}")
    for run in summary["runs"]:
        if run["error"]:
            lines.append(f"{run['name']}, seed {run['seed']}, failed: {run['error']}")
    return lines


def _about_seeds(summary: dict[str, Any]) -> str:
    several = any(len(row["seeds"]) > 1 for row in summary["rows"])
    return " Over several seeds: mean ± standard deviation." if several else ""


def as_markdown(summary: dict[str, Any]) -> str:
    """The table and its notes as Markdown."""
    headings, rows = table_cells(summary, digits=16)
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 3) + ["---"] * 2, *rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return table + "\n\n" + "\n".join(f"- {line}" for line in notes(summary)) + "\n"


def write_table(summary: dict[str, Any], folder: Path) -> None:
    """Writes ``table.json`` and ``table.md``; readers see either the old or the new files."""
    texts = {"table.json": json_text(summary, indent=2) + "\n", "table.md": as_markdown(summary)}
    with writing(f"the table in {folder}"):
        for name, text in texts.items():
            write_text(folder / name, text)


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
