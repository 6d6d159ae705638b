"""The evaluation of an encoder during a run, and of the untrained one, which is the baseline of the trained one."""

import copy
import json
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from accelerate.utils import broadcast_object_list
from transformers import PreTrainedModel

from ..atomic import write_json
from ..nn.random import generator_kept
from .build import Training
from .environment import describe_environment
from .tracking import set_evaluations_aside

SECONDS = "evaluation_seconds"  # what notes call the time that the evaluation before the training took
EVALUATION_ROWS = "evaluation_rows"  # and the limits of its rows, where a time has set them
_FILE = "checkpoints/untrained.json"  # until the first checkpoint has it
CONDITIONS = "conditions"  # what the notes of a checkpoint call those of the evaluations until then
IMAGES = "images"  # the kind of conditions that all scores depend on
ROWS, CODE = (
    "rows",
    "code.",
)  # kinds of conditions that earlier versions did not note; the second is followed by an evaluator's name
_CHANGED = (
    "the rows that are evaluated on, or the settings of the evaluation, are not those with which this run was begun ({}): the scores of the "
    "untrained encoder are measured again or left out, and those in metrics.jsonl until now are called former_eval there; curves of "
    "trackers keep them"
)


class Evaluate(Protocol):
    """Evaluates an encoder; ``thorough`` evaluations, before and after the training, may take their time.

    Attributes:
        conditions: What the scores depend on beside the encoder, as JSON by kinds of scores: the data, the settings.
    """

    conditions: dict[str, Any]

    def __call__(self, encoder: PreTrainedModel, thorough: bool = False) -> dict[str, float]: ...

    def missing(self, scores: dict[str, float]) -> list[str]:
        """Names of scores that a thorough evaluation would add to those of a former one."""


def evaluate_method(evaluate: Evaluate, training: Training, thorough: bool = False) -> dict[str, float]:
    """Evaluates the encoder that would be published, leaving the training's random state and modes alone."""
    with generator_kept(training.accelerator.device):
        return evaluate(training.method.export_encoder(), thorough)


def scores_before(evaluate: Evaluate, training: Training) -> dict[str, Any]:
    """What the notes say of the encoder before the training."""
    begun = time.monotonic()
    scores = evaluate_method(evaluate, training, thorough=True)
    seconds = time.monotonic() - begun
    return {"untrained": scores, "untrained_conditions": evaluate.conditions, SECONDS: round(seconds, 2)}


def scores_at_start(evaluate: Evaluate, training: Training) -> dict[str, Any]:
    """As :func:`scores_before`, once for all starts of a run: the scores are kept, should it end before its first checkpoint."""
    file, accelerator = training.output / _FILE, training.accelerator
    of = {"recipe": training.recipe.fingerprint().hash, "versions": describe_environment()}
    kept: list[dict[str, Any] | None] = [None]
    if accelerator.is_main_process:
        kept[0] = _kept(file, of, evaluate)
    broadcast_object_list(kept)  # all or none evaluate
    if kept[0] is not None:
        return kept[0]
    notes = scores_before(evaluate, training)
    if accelerator.is_main_process:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, of | notes)
    return notes


def forget_kept(training: Training) -> None:
    """Removes what :func:`scores_at_start` kept, once a checkpoint has it."""
    if training.accelerator.is_main_process:
        (training.output / _FILE).unlink(missing_ok=True)


def _kept(file: Path, of: dict[str, Any], evaluate: Evaluate) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        notes = {name: found[name] for name in ("untrained", "untrained_conditions", SECONDS)}
        own = json.loads(json.dumps(evaluate.conditions))
        same = all(found[name] == value for name, value in of.items()) and notes["untrained_conditions"] == own
        return notes if same and not evaluate.missing(notes["untrained"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def evaluate_untrained(evaluate: Evaluate, training: Training, checkpoint: Path) -> None:
    """Adds the scores from before the training that a checkpoint's notes lack, while the method still has its first weights.

    Scores of other conditions (another data set, rows that have changed, other settings, other code), and of an earlier version that did
    not note all of them, are no baseline for today's evaluation: they are measured again or left out.
    """
    former = training.checkpoints.notes(checkpoint)
    training.accelerator.wait_for_everyone()  # so that none reads what the first one is about to write
    notes = copy.deepcopy(former)
    conditions = notes.get("untrained_conditions")
    before = notes.get(CONDITIONS, conditions)
    if before is not None and changed_kinds(before, evaluate.conditions):
        training.accelerator.print(
            f"warning: {_CHANGED.format(', '.join(told_changes(before, evaluate.conditions)))}", file=sys.stderr
        )
        if training.accelerator.is_main_process:
            set_evaluations_aside(training.output / "metrics.jsonl")
    known = notes.get("untrained", {})
    if conditions is None or not fully_equal(conditions, evaluate.conditions):
        known, conditions = {}, {}
    if training.recipe.eval.baselines and (not known or evaluate.missing(known)):
        found = scores_before(evaluate, training)
        notes["untrained"] = found["untrained"] | known
        notes["untrained_conditions"] = conditions | found["untrained_conditions"]
    elif not known:
        notes.pop("untrained", None)
    notes[CONDITIONS] = (before or {}) | json.loads(json.dumps(evaluate.conditions))
    if notes != former:  # on all processes or on none
        training.checkpoints.replace_notes(checkpoint, notes)


def changed_kinds(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """The kinds of conditions that are in both and not the same."""
    return [kind for kind, own in json.loads(json.dumps(now)).items() if before.get(kind, own) != own]


def told_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between former conditions and today's, as recipes call it; the rows themselves where no setting explains it.

    Args:
        before: The former conditions.
        now: Today's.
    """
    now, found = json.loads(json.dumps(now)), []
    for kind in changed_kinds(before, now):
        old, new = before[kind], now[kind]
        if kind == IMAGES:
            found += _of_images(old, new)
        elif kind.startswith(CODE):
            found.append(f"the code of {kind.removeprefix(CODE).replace('_', '-')}")
        elif kind != ROWS:
            task, both = f"eval.tasks.{kind.replace('_', '-')}", isinstance(old, dict) and isinstance(new, dict)
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)] if both else []
            found += [f"{task}.{key}" for key in keys] or [task]
    return found or ["the rows themselves"]


def _of_images(old: Any, new: Any) -> list[str]:
    """The same of the conditions of all images: their source, limits and preparation."""
    try:
        ((name, source, count, *limits), prepared), ((new_name, new_source, new_count, *new_limits), now) = old, new
        keys = [f"eval.{key}" for key in {**source, **new_source} if source.get(key) != new_source.get(key)]
        found = keys or ["eval.split"] * (name != new_name)
        pairs = zip(("eval.max_train", "eval.max_test"), limits, new_limits, strict=False)
        found += [setting for setting, was, wanted in pairs if was != wanted]
        found += ["the preparation of the images"] * (prepared != now)
        return found or ["the number of rows" if count != new_count else "how rows are drawn"]
    except (AttributeError, TypeError, ValueError):  # of a version that noted something else
        return ["the images"]


def fully_equal(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether scores of former conditions are those of today's: what is in both is equal, and nothing was not noted then.

    Evaluators that are new have no former scores, and no conditions among the former ones.
    """
    noted = all(
        kind in before for kind in now if kind == ROWS or (kind.startswith(CODE) and kind.removeprefix(CODE) in before)
    )
    return noted and not changed_kinds(before, now)
