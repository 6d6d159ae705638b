"""The facts of a run that its card tells and ``result.json`` keeps: weights, data, what was left out, what it was computed on."""

from collections import Counter
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from ..data.unreadable import kind_of
from ..methods.contract.arguments import reads_labels
from ..recipe import Recipe
from ..recipe.paths import holders
from ..recipe.published import data_kind, data_name, public_name
from ..training.build import Training
from ..training.record import SETUPS, START
from .teachers import teachers

HUB = "hub"


def run_facts(training: Training, notes: dict[str, Any]) -> dict[str, Any]:
    """The facts of a finished run, as JSON.

    Args:
        training: The run.
        notes: What :func:`~hfcontrast.training.loop.train` returned.

    Returns:
        ``start``: the released weights that it started from (see :meth:`~hfcontrast.training.starting_point.StartingPoint.facts`), null
        for random ones; ``teachers``: the released encoders that it has learned from (see :func:`~.teachers.teachers`); ``data``: of what it was trained on (see :func:`data_facts`); ``setups``: what its steps were computed on, one
        entry for each change (``from_step``, ``device``, ``processes``, ``precision``, ``versions``), null where an earlier version did
        not note it.
    """
    start = notes[START] if START in notes else _start_now(training)
    return {
        "start": start,
        "teachers": teachers(training.method),
        "data": data_facts(training),
        "setups": notes.get(SETUPS) or None,
    }


def _start_now(training: Training) -> dict[str, Any] | None:
    """The starting point of a run that an earlier version began, which noted no commits: of those only what the recipe says."""
    if training.start is None:
        return None
    found = training.start.facts(training.method.encoder)
    asked = training.recipe.backbone.weights
    for part in found["weights"]:
        part["revision"] = asked[part["tower"]].revision
    return found


def data_facts(training: Training) -> dict[str, Any]:
    """The facts of the training data, as JSON.

    Returns:
        ``name``, without paths; ``kind``: ``hub``, ``built-in``, ``local``, ``address`` or ``memory``; ``config``, ``split`` and
        ``revision`` as in the recipe; ``rows``: how many there are, null where a stream does not say; ``streaming``; ``epochs``: passes
        over them; ``held_out``: how many rows of the split are not trained on, as the method reads labels and is evaluated on them; ``fingerprint``: of the images and labels, null where nothing is known of a stream; ``labels``: ``used``, ``unused``, or null where there are none; ``unreadable``: how many of the rows that were read
        were left out, by cause; ``not_used``: how many files or images of the source are no rows, by cause.
    """
    settings, rows = training.recipe.data, training.rows
    path = str(settings.path)
    labels = None
    if rows.labeled:
        labels = "used" if takes_labels(training) else "unused"
    return {
        "name": data_name(path, settings.data_dir, settings.data_files),
        "kind": data_kind(path),
        "config": settings.name,
        "split": settings.split,
        "revision": settings.revision,
        "rows": rows.num_rows,
        "held_out": 0 if rows.whole is None else (rows.whole.num_rows or 0) - (rows.num_rows or 0),
        "fingerprint": rows.fingerprint(further=False),
        "streaming": rows.streaming,
        "epochs": round(training.total_steps / training.loader.steps_per_epoch, 4),
        "labels": labels,
        "unreadable": dict(Counter(map(kind_of, training.loader.unreadable.values())).most_common()),
        "not_used": dict(rows.not_used),
    }


def takes_labels(training: Training) -> bool:
    """Whether the method has learned from the labels of the rows."""
    return reads_labels(type(training.method)) and training.rows.labeled


def hub_data(facts: dict[str, Any]) -> list[str]:
    """The data sets of the Hub that a run was trained on, as the metadata of a card names them."""
    return [name for name in [facts["data"]["name"]] if facts["data"]["kind"] == HUB and is_repository(name)]


def evaluated_on_hub(recipe: Recipe) -> set[str]:
    """The data sets of the Hub among those that a recipe names, for the training or an evaluation."""
    values = recipe.to_dict()
    paths = [holder.get("path") for holder, where, _ in holders(values) if where[0] in ("data", "eval")]
    return {public_name(path) for path in paths if path and data_kind(path) == HUB and is_repository(public_name(path))}


def base_models(facts: dict[str, Any]) -> list[str]:
    """The models of the Hub that a run started or has learned from; of weights of a folder those that its own card names."""
    parts = [*(facts["start"]["weights"] if facts["start"] else []), *facts.get("teachers", [])]
    return list(dict.fromkeys(name for part in parts for name in part["base_models"] if is_repository(name)))


def is_repository(name: str) -> bool:
    """Whether a name can be one on the Hub."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def relation(facts: dict[str, Any]) -> str | None:
    """What a run made of its base models, as the Hub calls it, which has no word for a student; None where it names none."""
    if not base_models(facts) or not facts["start"]:
        return None
    return "adapter" if facts["start"]["lora"] else "finetune"
