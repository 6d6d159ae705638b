"""The rows of a comparison's table: what is evaluated beside the recipes, each once, and every recipe; means over seeds."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..evaluation.registry import figures_of
from ..evaluation.verdict import told_baselines_above
from .measured import counts_of_runs, data_labels
from .plan import PlannedRun

MEASURED_COSTS = ("images_per_second", "peak_memory")


def baseline_rows(runs: Sequence[PlannedRun]) -> list[dict[str, Any]]:
    """Chance, raw pixels, untrained encoders and starting points of runs from released weights: a row for each different one."""
    labels, counts = data_labels(runs), counts_of_runs(runs)
    released = [run for run in runs if run.recipe.released_weights]
    others = [run for run in runs if not run.recipe.released_weights]
    of_kind = {"chance": ("chance", runs), "raw_pixels": ("raw pixels", runs)}
    of_kind |= {"untrained": ("untrained encoder", others), "starting_point": ("starting point", released)}
    return [row for kind, (label, own) in of_kind.items() for row in _baselines(own, kind, label, labels, counts)]


def recipe_rows(runs: Sequence[PlannedRun]) -> list[dict[str, Any]]:
    """A row for each recipe."""
    rows, counts = [], counts_of_runs(runs)
    for name in dict.fromkeys(run.name for run in runs):
        own = [run for run in runs if run.name == name]
        done = [run for run in own if run.result]
        figures = [{**run.result["scores"].get("trained", {}), **_costs(run.result)} for run in done]
        row = _row(name, "recipe", [run.seed for run in done], figures, [counts[str(run.folder)] for run in done])
        row["failed"] = [run.seed for run in own if run.error]
        row["unfinished"] = [run.seed for run in own if not run.error and not run.result]
        row["recipe_hashes"] = [run.hash for run in own]
        rows.append(row)
    return rows


def _costs(result: dict[str, Any]) -> dict[str, float | None]:
    return {name: result.get(name) for name in MEASURED_COSTS}


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences on baselines that score above a recipe's trained encoder, in the mean over its seeds.

    Args:
        rows: Of the table.
    """
    sentences = []
    for row in rows:
        if row["kind"] == "recipe":
            scores = {one["kind"]: _means(one) for one in rows if row["name"] in one.get("of", ())}
            sentences += told_baselines_above(scores | {"trained": _means(row)}, row["name"])
    return sentences


def _means(row: dict[str, Any]) -> dict[str, float]:
    shown = {key for key, (_, figure) in figures_of(row).items() if "compare" in figure.shown_in or figure.headline}
    return {key: cell["mean"] for key, cell in row.items() if isinstance(cell, dict) and key in shown}


def _baselines(
    runs: Sequence[PlannedRun], kind: str, label: str, data: dict[str, str], numbers: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row for each different baseline; where there are several, it says whose.

    Args:
        runs: The runs.
        kind: What results call it.
        label: What tables call it.
        data: What :func:`.measured.data_labels` gave.
        numbers: What :func:`.measured.counts_of_runs` gave.
    """
    groups: list[_Baseline] = []
    for run in runs:
        key, seed = _shared_by(run, kind)
        found = run.result["scores"] if run.result else {}
        scores = found.get(
            kind, found.get("untrained") if kind == "starting_point" else None
        )  # its name in older results
        # A method may build its encoder in a way of its own (CMC: one for each color view): the scores tell.
        own = data.get(str(run.folder))
        fitting = (group for group in groups if group.key == key and group.agrees(seed, scores, own))
        if (group := next(fitting, None)) is None:
            groups.append(group := _Baseline(kind, key))
        group.data = group.data or own
        group.names[run.name] = None
        if scores is not None:
            group.add(seed, run.seed, scores, numbers[str(run.folder)])
    rows = []
    for group in (group for group in groups if group.scores):
        seeds, figures, counts = zip(*group.scores.values(), strict=True)
        name = label if len(groups) == 1 else f"{label} ({', '.join(group.names)})"
        rows.append(_row(name, kind, list(seeds), list(figures), list(counts)) | {"of": list(group.names)})
    return rows


def _shared_by(run: PlannedRun, kind: str) -> tuple[str, int | None]:
    """By which key and seed (None: any) runs share a baseline; chance is shared by all whose figures of it are equal."""
    if kind == "chance":
        return "", None
    return (run.pixels(), None) if kind == "raw_pixels" else (run.untrained(), run.seed)


@dataclass
class _Baseline:
    """Runs that share a baseline: by seed (None: any) the seed that it was evaluated with, its scores, and the numbers behind them.

    ``data`` is what they were evaluated on, where not all runs were evaluated on the same.
    """

    kind: str
    key: str
    data: str | None = None
    names: dict[str, None] = field(default_factory=dict)
    scores: dict[int | None, tuple[int, dict[str, float], dict[str, Any]]] = field(default_factory=dict)

    def agrees(self, seed: int | None, scores: dict[str, float] | None, data: str | None) -> bool:
        """Whether scores are of the same data and those that are known for the seed."""
        if self.data and data and self.data != data:
            return False
        if scores is None or seed not in self.scores:
            return True
        known = self.scores[seed][1]
        both = known.keys() & scores.keys()
        if self.kind == "chance":
            return all(abs(scores[key] - known[key]) < 1e-9 for key in both)
        exact = [
            key for key, (who, figure) in figures_of(both).items() if who and who.of_pixels and figure.kind == "share"
        ]
        return all(abs(scores[key] - known[key]) <= 0.005 for key in exact)

    def add(self, seed: int | None, own_seed: int, scores: dict[str, float], counts: dict[str, Any]) -> None:
        """Adds scores and the numbers behind them: what is known stays; of chance, figures that others have are added."""
        first, known, numbers = self.scores.get(seed, (own_seed, {}, {}))
        if not known or self.kind == "chance":
            self.scores[seed] = first, scores | known, counts | numbers


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
