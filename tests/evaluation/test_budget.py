"""Rows of an evaluation that a time is enough for."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from hfcontrast.data.sources import load_rows
from hfcontrast.evaluation import budget, online
from hfcontrast.evaluation.batches import Batches
from hfcontrast.evaluation.features import on_device
from hfcontrast.evaluation.protocol import Task
from hfcontrast.evaluation.registry import get_evaluator
from hfcontrast.run_budget import seconds_for_pixels, told_left_out
from hfcontrast.testing.color_rows import color_rows

COST = budget.Cost(image=1e-3, encoding=2e-3, product=1e-11, passing=1e-9)


def test_seconds_by_hand():
    """300 images of 1 ms and two encodings of 2 ms; products of 200 x 100 x 32 for kNN; the probe's passes and matrices."""
    own = 300 * (1e-3 + 2 * 2e-3)
    knn, probe = 1e-11 * 200 * 100 * 32, 1e-9 * 110 * 200 * 32 + 1e-11 * (200 * 32**2 + 6 * 32**3)
    assert COST.seconds(200, 100, [32], probe=False, encodings=2) == pytest.approx(own + knn)
    assert COST.seconds(200, 100, [32, 32], probe=True, encodings=2) == pytest.approx(own + 2 * (knn + probe))


def test_as_many_rows_as_the_time_is_enough_for():
    wide = ([3072, 96, 96], True, 2)
    everything = COST.seconds(20000, 10000, *wide)
    assert budget.affordable_rows(COST, 20000, 10000, everything, *wide) == (20000, 10000)
    rows = [budget.affordable_rows(COST, 20000, 10000, everything * share, *wide) for share in (0.7, 0.3, 0.1)]
    assert rows == sorted(rows, reverse=True) and len(set(rows)) == 3
    for (train, test), share in zip(rows, (0.7, 0.3, 0.1)):
        assert COST.seconds(train, test, *wide) <= everything * share and train == pytest.approx(2 * test, rel=0.05)
        assert float(f"{train:.2g}") == train
    assert budget.affordable_rows(COST, 20000, 10000, 0.0, *wide) == (budget.FEWEST, budget.FEWEST)
    assert budget.affordable_rows(COST, 150, 30, 0.0, *wide) == (150, 30)


def test_everything_is_measured():
    def batches():
        def transform(images):
            return torch.stack([torch.ones(3, 8, 8) * image.size[0] for image in images])

        return Batches(load_rows("builtin/digits", split="test"), 40, transform=transform, batch_size=16, size=8)

    encoder, _ = color_rows()
    drawn = torch.get_rng_state()
    cost = budget.measured_cost(batches, encoder, classes=10, width=budget.widths_of(encoder, 8, True, 2)[0])
    assert all(value > 0 for value in vars(cost).values())
    assert torch.equal(drawn, torch.get_rng_state())


def test_raw_pixels_are_left_out_where_they_take_too_long(monkeypatch):
    """Of evaluators in their order: those that the time is enough for."""
    found = []
    features = [torch.zeros(200, 32), torch.arange(200) % 3, torch.zeros(100, 32), torch.arange(100) % 3]
    rows = SimpleNamespace(remembering=contextlib.nullcontext, labeled_features=lambda _: features)
    tasks = {name: Task(get_evaluator(name), get_evaluator(name).settings_class()) for name in ("knn", "linear")}
    evaluation = online.OnlineEvaluation(rows, tasks)
    monkeypatch.setattr(online, "cost_of_classifiers", lambda *_: COST)
    monkeypatch.setattr(
        evaluation, "_measured", lambda _, tasks, numbers: found.append([t.evaluator.name for t in tasks])
    )
    probe = COST.probe(200, 32)
    for limit in (None, probe + 1, probe / 2, 0.0):
        evaluation.raw_pixels(torch.device("cpu"), limit)
    assert found == [["knn", "linear"], ["knn", "linear"], ["knn"], []]
    assert evaluation.left_out == {"knn": COST.knn(200, 100, 32), "linear": probe}
    assert "linear probe of raw pixels is left out, as it would take about" in told_left_out(evaluation)[1]


def test_a_run_for_a_time_has_its_rows_limited_already():
    def limit(minutes, spent):
        training = SimpleNamespace(recipe=SimpleNamespace(train=SimpleNamespace(minutes=minutes)))
        training.clock = SimpleNamespace(spent=lambda: spent)
        return seconds_for_pixels(training)

    assert limit(30, 900) is None and limit(None, 1000) == 200 and limit(None, 10) == 60


def test_classifiers_are_measured_without_images():
    cost = budget.cost_of_classifiers(torch.device("cpu"), 3, 32)
    assert cost.knn(10, 10, 32) > 0 and cost.probe(10, 32) > 0 and cost.image == 0


def test_features_go_to_the_device_where_they_fit(monkeypatch):
    part = torch.zeros(4, 2)
    assert on_device(torch.device("cpu"), part)[0] is part
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4 * part.nbytes - 1, 0))
    assert on_device(torch.device("cuda"), part)[0].device.type == "cpu"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4 * part.nbytes, 0))
    moved = []
    stub = SimpleNamespace(nbytes=part.nbytes, to=lambda device: moved.append(device.type))
    on_device(torch.device("cuda"), stub)
    assert moved == ["cuda"]
