"""What the figures of a comparison were measured on, as far as it is not the same in all runs."""

from collections.abc import Callable, Sequence
from typing import Any

from ..evaluation.counts import told_overlap
from .plan import PlannedRun

_DIGITS = 8  # of a fingerprint
# What results say of an evaluation beside its settings: how tables call it, and where it stands in ``measured_on``.
_PARTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "rows that were evaluated on": lambda found: _fingerprint(found, "test"),
    "captions that were evaluated on": lambda found: _fingerprint(found, "test", "with_captions"),
    "train rows of the evaluation": lambda found: _fingerprint(found, "train"),
    "preparation of the images": lambda found: found.get("images"),
}


def data_labels(runs: Sequence[PlannedRun]) -> dict[str, str]:
    """What the data of each finished run is called, by its folder; empty where all runs were evaluated on the same data.

    Data of one name that have changed between two runs are told apart by their fingerprints; what an earlier version did not note
    counts as the same.
    """
    found = {str(run.folder): _named(run.result) for run in runs if run.result}
    prints: dict[str, dict[str, None]] = {}
    for title, fingerprint in found.values():
        prints.setdefault(title, {}).update({fingerprint: None} if fingerprint else {})
    if len(prints) < 2 and all(len(known) < 2 for known in prints.values()):
        return {}
    return {
        folder: title + (f", fingerprint {_short(fingerprint)}" if fingerprint and len(prints[title]) > 1 else "")
        for folder, (title, fingerprint) in found.items()
    }


def counts_of_runs(runs: Sequence[PlannedRun]) -> dict[str, dict[str, dict[str, Any]]]:
    """The numbers behind the figures of finished runs, by folder and key; with the ``data``, where not all runs were evaluated on the same.

    Runs of earlier versions have no numbers.
    """
    labels, found = data_labels(runs), {}
    for run in runs:
        if run.result:
            counts = dict(run.result.get("counts") or {})
            if label := labels.get(str(run.folder)):
                keys = dict.fromkeys(key for scores in run.result["scores"].values() for key in scores)
                counts = {key: {"data": label} | counts.get(key, {}) for key in keys}
            found[str(run.folder)] = counts
    return found


def unequal_evaluations(runs: Sequence[PlannedRun]) -> list[str]:
    """What is not the same in the evaluations of all finished runs, beside settings: the rows, the images, the code of evaluators, the tokens."""
    results = [run.result for run in runs if run.result]
    found: dict[str, dict[str, None]] = {}
    for result in results:
        measured, text = result.get("measured_on") or {}, result.get("text") or {}
        values = {name: part(measured) for name, part in _PARTS.items()}
        values |= {f"code of {name}": own["code"] for name, own in measured.get("evaluators", {}).items()}
        values |= {"labels in the training": (result.get("data") or {}).get("labels")}
        values |= {"tokens of a text": text.get("max_length"), "tokenizer": text.get("tokenizer")}
        for name, value in values.items():
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    return [f"{name} ({', '.join(values)})" for name, values in found.items() if len(values) > 1]


def told_trained_on(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Which recipes learned from labels, and which encoders were trained on the images that they are evaluated on.

    Args:
        runs: As :func:`.table.summarize` has them.
    """
    learners: dict[str, None] = {}
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        result = run["result"] or {}
        labels = (result.get("data") or {}).get("labels")
        if labels == "used":
            learners[run["name"]] = None
        if told := told_overlap(result.get("evaluation") or {}, labels):
            found.setdefault(told, {})[run["name"]] = None
    lines = [f"Learned from the labels of the training images: {', '.join(learners)}."] if learners else []
    return lines + [f"{', '.join(names)}: {told[0].lower()}{told[1:]}" for told, names in found.items()]


def _named(result: dict[str, Any]) -> tuple[str, str | None]:
    test = (result.get("measured_on") or {}).get("test") or {}
    return result["evaluated_on"], test.get("fingerprint")


def _fingerprint(measured: dict[str, Any], which: str, kind: str = "fingerprint") -> str | None:
    data = measured.get(which) or {}
    fingerprint = data.get(kind)
    return fingerprint and f"{data['rows']} with fingerprint {_short(fingerprint)}"


def _short(fingerprint: str) -> str:
    return fingerprint.rpartition(":")[2][:_DIGITS]
