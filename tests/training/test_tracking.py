"""Curves of a run that was killed and started again: every step once, in one run, under its name."""

import io
import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from accelerate import Accelerator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from hfcontrast.recipe.sections import TrackSection
from hfcontrast.training import meter
from hfcontrast.training.tracking import Tracking, read_metrics


def _start(folder, step, total, **settings):
    accelerator = Accelerator(cpu=True, log_with=settings["to"] or None, project_dir=folder)
    tracking = Tracking(folder / "metrics.jsonl", accelerator)
    recipe = {"optim": {"lr": 0.1}, "name": None}
    tracking.start(TrackSection(**settings), folder.name, recipe, step, total, "run-of-old")
    return tracking


def _log(tracking, steps):
    for step in steps:
        tracking.log({"loss": float(step)}, step)


@pytest.mark.parametrize("name", [None, "second try"])
def test_tensorboard_has_every_step_once_after_kills(name, tmp_path):
    settings = {"to": ["tensorboard"], "run_name": name}
    first = _start(tmp_path, 0, 6, **settings)
    _log(first, range(1, 6))  # killed: its checkpoint is of step 3
    second = _start(tmp_path, 3, 6, **settings)
    _log(second, range(4, 7))
    second.log({"eval": {"knn_accuracy": 0.5}}, 6)
    third = _start(tmp_path, 6, 6, **settings)  # only evaluated again
    third.log({"eval": {"knn_accuracy": 0.75}}, 6)
    for tracking in (first, second, third):
        for tracker in tracking.accelerator.trackers:
            tracker.finish()
    folder = tmp_path / "hfcontrast" / (name or "")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(s, float(s)) for s in range(1, 7)]
    assert [(event.step, event.value) for event in events.Scalars("eval/knn_accuracy")] == [(6, 0.75)]
    assert {file.parent for file in tmp_path.rglob("events*")} == {folder}  # no further run for the settings
    assert [(line["step"], "eval" in line) for line in read_metrics(tmp_path / "metrics.jsonl")] == [
        *((step, False) for step in range(1, 7)),
        (6, True),
    ]


def test_wandb_resumes_its_run(tmp_path, monkeypatch):
    calls = []
    run = SimpleNamespace(config=SimpleNamespace(update=lambda *_, **__: None), log=lambda *_, **__: None)
    fake = ModuleType("wandb")
    fake.init = lambda **keywords: calls.append(keywords) or run
    fake.config = run.config
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr("accelerate.tracking.is_wandb_available", lambda: True)
    monkeypatch.setattr("accelerate.tracking._available_trackers", ["wandb", "tensorboard"], raising=False)
    for step in (0, 3):
        tracking = Tracking(tmp_path / "metrics.jsonl", Accelerator(cpu=True))
        tracking.accelerator.log_with = ["wandb"]
        tracking.start(TrackSection(to=["wandb"], run_name="mine"), "folder", {}, step, 6, "run-of-old")
    assert [(call["project"], call["name"], call["id"], call["resume"]) for call in calls] == [
        ("hfcontrast", "mine", "run-of-old", "allow")
    ] * 2


def test_lines_that_are_no_log_are_passed_over(tmp_path):
    lines = [{"step": 1, "loss": 2.0}, [1, 2], "text", 3, None, {"loss": 1.0}, {"step": "2"}, {"step": 2, "loss": 1.0}]
    text = "\n".join(map(json.dumps, lines)) + '\n\n\x00\x00{"step": 3, "lo'
    (tmp_path / "metrics.jsonl").write_text(text)
    _start(tmp_path, 5, 6, to=[])
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert kept == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]


def test_what_is_no_step_stays_out_of_the_time_left(monkeypatch):
    """Ten steps of a second each, and 100 s for a first step or an evaluation before them: 90 s are left."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("tqdm.std.time", lambda: clock.now)
    monkeypatch.setattr(meter.time, "time", lambda: clock.now)
    monkeypatch.setattr(meter, "tqdm", partial(tqdm, file=io.StringIO(), mininterval=0))
    monkeypatch.delenv("TQDM_DISABLE")
    named = SimpleNamespace(method=SimpleNamespace(name="simclr"))
    parts = {"accelerator": SimpleNamespace(is_main_process=True), "output": Path("run"), "method": None}
    with meter.Meter(SimpleNamespace(total_steps=100, recipe=named, **parts), 0) as told:
        with told.aside():
            clock.now += 100
        for _ in range(10):
            clock.now += 1
            told.advance()
        assert told.bar.format_dict["elapsed"] == 10
        assert told.bar.format_dict["rate"] == pytest.approx(1.0)
