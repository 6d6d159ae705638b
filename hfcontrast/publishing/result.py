"""result.json: the figures of a finished run, for programs."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..atomic import write_json
from ..checksums import finished, new_fingerprint
from ..recipe.published import published_values
from ..training.build import Training
from ..training.cut_captions import NOTE
from ..training.early_stopping import NOTE as STOPPING
from ..training.environment import describe_environment
from ..training.length import SECONDS
from ..training.loss_range import constant_loss
from ..training.meter import WAITING
from ..training.record import precision_of
from ..training.tracking import read_metrics
from .facts import run_facts
from .verdict import verdict_of

FILE = "result.json"


def named_scores(notes: Mapping[str, Any], released: bool) -> dict[str, dict[str, float]]:
    """The scores of a run by the names that ``result.json`` has for them, as far as they were evaluated.

    Args:
        notes: Of the run.
        released: Whether it started from released weights, so that its encoder was not untrained.
    """
    names = {"chance": "chance", "raw_pixels": "raw_pixels", "untrained": "starting_point" if released else "untrained"}
    names["trained"] = "trained"
    return {name: notes[note] for note, name in names.items() if notes.get(note)}


def build_result(training: Training, notes: dict[str, Any], evaluated_on: str) -> dict[str, Any]:
    """The figures of a finished run, as JSON.

    Args:
        training: The run.
        notes: What :func:`~hfcontrast.training.loop.train` returned, with the scores of ``raw_pixels`` beside it.
        evaluated_on: The data that was evaluated on, as the user knows it.

    Returns:
        ``method``; ``recipe_hash``: that of its fingerprint; ``seed``; ``steps``; ``length_changes``: where the length was changed on
        resuming, with the steps ``from`` which and ``to`` which; ``minutes`` that all starts took together until the last step; ``waiting_for_data``: the share of the
        time that the last start waited for data, in its steady state; ``scores`` of ``chance``, ``raw_pixels``, ``untrained``
        (of a run from released weights ``starting_point`` instead) and ``trained`` (the last step's, not the best's), as far
        as they were evaluated, by the keys that evaluators declare; ``verdict``: whether it ``beats_baselines``, ``sentences``, ``causes``
        (see :meth:`~.verdict.Verdict.facts`); ``chance_answers``: the class that chance always answers where the classes are unequal, by these keys; ``evaluated_on``; ``evaluation``: how many test images, and of
        labeled data train images there were, how many ``shared_rows`` (test rows as well) and ``near_duplicates`` of test images were
        left out of the latter, ``unlabeled`` images of both, ``trained_on``: how many of the ``test_rows`` the encoder was trained on too, ``all``, or null where that is not known, and ``not_classified``: why nothing was, where all train rows are test rows;
        ``counts``: the numbers behind each of
        the trained encoder's scores, by the same keys (``test_images`` and ``of_test_images``, from which they were taken, ``k`` ...);
        ``measured_on``: the data (``test``, ``train``: ``name``, ``split``, ``config``, ``revision``, ``rows`` and their ``fingerprint``), its limits,
        how ``images`` were prepared, the settings and code of the ``evaluators``, and ``others``: the data of figures that were measured on other
        data, by their keys; ``text``: see :func:`text_facts`;
        ``captions``: of a method of images and texts, how many were ``read`` in the training and ``cut_off``;
        ``images_per_second`` of the training; ``constant_loss``: a sentence where the loss was the same in every step, else null;
        ``peak_memory`` of the first process in bytes (see
        :func:`~hfcontrast.training.memory.peak_memory`); ``device``, ``processes``, ``threads``, ``precision``, ``versions``, of the last
        start; and what :func:`~.facts.run_facts` gives: ``start``, ``data``, ``setups``. No path of this machine is in it.
    """
    recipe, accelerator = training.recipe, training.accelerator
    cuda = accelerator.device.type == "cuda"
    scores = named_scores(notes, training.weights is not None)
    result = {
        "method": recipe.method.name,
        "recipe_hash": recipe.fingerprint().hash,
        "seed": recipe.train.seed,
        "steps": training.total_steps,
        "length_changes": list(training.length.changes),
        "minutes": round(notes.get(SECONDS, 0.0) / 60, 2),
        WAITING: notes.get(WAITING),
        "scores": scores,
        "verdict": verdict_of(training, notes, scores).facts(),
        "chance_answers": notes.get("chance_answers", {}),
        "evaluated_on": evaluated_on,
        "evaluation": notes["evaluation"],
        "counts": notes.get("counts", {}),
        "measured_on": notes.get("measured_on"),
        "text": text_facts(training),
        "images_per_second": training_speed(training.output / "metrics.jsonl"),
        "constant_loss": constant_loss(notes, training.total_steps),
        "early_stopping": notes.get(STOPPING),
        "captions": None if training.captions is None else notes.get(NOTE),
        "peak_memory": notes.get("peak_memory"),
        "device": torch.cuda.get_device_name(accelerator.device) if cuda else accelerator.device.type,
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "precision": precision_of(training),
        "versions": describe_environment(),
        **run_facts(training, notes),
    }
    return published_values(recipe).scrubbed(result)


def text_facts(training: Training) -> dict[str, Any] | None:
    """The tokens that texts become; None for a method of images alone.

    Returns:
        ``max_length``: tokens of a text at most; ``vocabulary``: entries of the tokenizer; ``tokenizer``: a hash of these.
    """
    if training.captions is None:
        return None
    vocabulary = training.captions.tokenizer.get_vocab()
    found = new_fingerprint()
    found.update(json.dumps(vocabulary, sort_keys=True).encode())
    entries = {"vocabulary": len(vocabulary), "tokenizer": finished(found)}
    return {"max_length": training.captions.max_length} | entries


def training_speed(metrics: Path) -> float | None:
    """Median images/s of the log lines: as a median, it does not depend on evaluations, interruptions and the first steps."""
    speeds = [line["images_per_second"] for line in read_metrics(metrics) if "images_per_second" in line]
    return round(statistics.median(speeds), 1) if speeds else None


def write_result(result: dict[str, Any], folder: Path) -> None:
    """Writes ``result.json`` atomically: its presence marks the run as finished."""
    write_json(folder / FILE, result)
