"""The figures of a run as its card and its screen show them: the table, how it is read, and the Hub's model index."""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from huggingface_hub import EvalResult

from ..evaluation.data_sets import DataSet
from ..evaluation.protocol import Evaluator, Figure, certain
from ..evaluation.registry import figures_of
from ..evaluation.verdict import told_answers

CARD = "card"  # where figures are shown, as evaluators declare it
_WIDEST = 4  # scores beside each other


def score_table(notes: dict[str, Any], released: bool = False) -> tuple[list[str], list[list[str]]]:
    """The table of results: its columns, and rows for chance, raw pixels, the encoder before the training, the trained one.

    There is no row without scores. With more than four kinds of scores these are the rows, and the encoders the columns.

    Args:
        notes: Of the run.
        released: Whether it started from released weights, so that its encoder was not untrained.
    """
    encoders = {
        "chance": notes.get("chance"),
        "raw pixels": notes.get("raw_pixels"),
        "starting point" if released else "untrained encoder": notes.get("untrained"),
        "trained encoder": notes.get("trained"),
    }
    found = [scores for scores in encoders.values() if scores]
    kinds = card_figures(key for scores in found for key in scores)
    shown = {name: scores for name, scores in encoders.items() if scores and any(key in scores for key in kinds)}
    rows = [
        [name, *(figure.text(scores.get(key)) for key, (_, figure) in kinds.items())] for name, scores in shown.items()
    ]
    others = (notes.get("measured_on") or {}).get("others", {})
    columns = ["features", *(titled(figure, others.get(key)) for key, (_, figure) in kinds.items())]
    if len(kinds) > _WIDEST:  # many scores of few encoders read better below each other
        columns, *rows = map(list, zip(columns, *rows))
    return columns, rows


def titled(figure: Figure, data: dict[str, Any] | None) -> str:
    """The heading of a figure, with the data where it was measured on others than the run's test images."""
    return figure.title if data is None else f"{figure.title} on {DataSet(**data).title}"


def table_remarks(notes: dict[str, Any]) -> list[str]:
    """Sentences on how that table is read: which class chance answers.

    Args:
        notes: Of the run.
    """
    titles = {key: figure.title for key, (_, figure) in card_figures(notes.get("chance", {})).items()}
    answers = told_answers(notes.get("chance_answers", {}), titles)
    return [answers] if answers else []


def card_figures(keys: Iterable[str]) -> dict[str, tuple[Evaluator, Figure]]:
    """The figures that cards show, with the evaluator that measured them, by their keys in scores, in the order of tables."""
    return {key: found for key, found in figures_of(keys).items() if CARD in found[1].shown_in}


def model_index(
    evaluated_on: str,
    scores: dict[str, float],
    measured_on: dict[str, Any],
    chance: Mapping[str, float],
    on_hub: Container[str] = (),
) -> list[EvalResult]:
    """The figures for the Hub's model index, each under the data that it was measured on; those that are 100 % by chance say nothing.

    The type of a data set is its name on the Hub, of any other a word without a slash, which is none there; the split stands apart.

    Args:
        evaluated_on: What the data of the test images are called.
        scores: Of the trained encoder.
        measured_on: As ``result.json`` has it.
        chance: What figures are by chance.
        on_hub: The data sets that are on the Hub.
    """
    own = {"name": evaluated_on, "split": None} if not measured_on.get("test") else measured_on["test"]
    found = []
    for key, (evaluator, figure) in card_figures(scores).items():
        if certain(chance.get(key)):
            continue
        other = measured_on.get("others", {}).get(key)
        data = other or own
        found.append(
            EvalResult(
                task_type=evaluator.task_type,
                task_name=evaluator.task_name,
                dataset_type=data["name"] if data["name"] in on_hub else data["name"].replace("/", "-"),
                dataset_name=data["name"],
                dataset_config=data.get("config"),
                dataset_split=data["split"],
                dataset_revision=data.get("revision"),
                metric_type=figure.hub_metric,
                metric_name=figure.title,
                metric_value=round(scores[key], 4),
            )
        )
    return found
