"""Whether a run was trained on the rows that `hfcontrast evaluate` evaluates it on, as far as its ``result.json`` tells."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.sources import Rows
from ..data.sources.source import split_names
from ..evaluation.counts import told_overlap
from ..evaluation.data_sets import DataSet
from ..paths import local_path

_RESULT = "result.json"


def told_trained_rows(model: str, test: Rows, data: DataSet) -> str | None:
    """A sentence where the encoder was, or may have been, trained on the test rows; None else, and where nothing is known.

    Args:
        model: The folder of a run, or another model.
        test: The test rows.
        data: What they are.
    """
    result = _result_of(model)
    trained, measured = result.get("data") or {}, (result.get("measured_on") or {}).get("test") or {}
    labels = trained.get("labels")
    if data.fingerprint and data.fingerprint == measured.get("fingerprint"):
        return told_overlap(result.get("evaluation") or {}, labels)
    known = trained.get("fingerprint")
    if known and known in (data.fingerprint, test.whole.fingerprint(further=False) if test.whole else None):
        return told_overlap({"trained_on": "all" if trained.get("epochs", 0) >= 1 else None}, labels)
    if trained.get("name") == data.name and _share_splits(str(trained.get("split")), data.split):
        return told_overlap({"trained_on": None}, labels)
    return None


def _result_of(model: str) -> Mapping[str, Any]:
    try:
        found = json.loads((Path(local_path(model)) / _RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _share_splits(trained: str, asked: str) -> bool:
    """Whether two expressions name a split in common; what is no expression, as a fifth of one, is of the split it ends in."""
    return bool(set(split_names(trained)) & set(split_names(asked.rpartition(" of ")[2])))
