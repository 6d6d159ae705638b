"""``train.minutes``: the number of steps is decided by their speed, and then the run is that of so many steps."""

import json
import signal

import pytest
import torch
from test_every_method import METHODS, state, tiny
from test_resume import assert_same_end, wait_for_step
from tiny_runs import Run, run

from hfcontrast import run_budget
from hfcontrast.evaluation import budget
from hfcontrast.recipe import load_recipe
from hfcontrast.run_training import run_training
from hfcontrast.training import timed
from hfcontrast.training.build import build_training
from hfcontrast.training.length import Clock
from hfcontrast.training.loop import begin, train


def timed_recipe(name, folder, minutes, **settings):
    return tiny(name, folder, steps=None, minutes=minutes, checkpoint_every=None, **settings)


@pytest.fixture
def seconds(monkeypatch):
    """Sets the measured duration of a step, and the time that has passed."""

    def fix(step: float, spent: float = 0.0):
        monkeypatch.setattr(timed, "seconds_per_step", lambda *_: step)
        monkeypatch.setattr(Clock, "spent", lambda clock: clock.before + spent)

    return fix


@pytest.mark.parametrize(
    "name",
    [name if name in ("byol", "deepcluster_v2") else pytest.param(name, marks=pytest.mark.slow) for name in METHODS],
)
def test_the_steps_that_are_measured_are_taken_back(name, tmp_path):
    """Weights, buffers, optimizer, random numbers and the position in the data: the steps after it are those of a run without."""
    alone, measured = (build_training(tiny(name, tmp_path / folder, steps=4)) for folder in ("alone", "measured"))
    begin(alone, None)
    begin(measured, None)
    before, drawn = state(measured), torch.get_rng_state()
    assert timed.seconds_per_step(measured, 0, 0.01) > 0
    assert torch.equal(drawn, torch.get_rng_state())
    after = state(measured)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    torch.manual_seed(1)
    train(alone)
    torch.manual_seed(1)
    train(measured)
    assert all(torch.equal(value, state(measured)[key]) for key, value in state(alone).items())


def test_the_time_that_is_left_is_shared_out(tmp_path, seconds, capsys):
    """Of 120 s 20 have passed and 10 are kept for the evaluation at the end, with as much for raw pixels: 80 s for 78 steps of 1 s."""
    seconds(1.0, spent=20)
    training = build_training(timed_recipe("simclr", tmp_path, 2))
    assert training.length.pending and training.total_steps == 0
    training.recipe.eval.baselines = True
    timed.decide_length(training, 0, {"evaluation_seconds": 10.0})
    assert training.total_steps == 78 and not training.length.pending
    assert "train.minutes 2: 20 s have passed, 20 s are kept" in (told := capsys.readouterr().out)
    assert "a step takes 1 s: 78 steps, 19.5 epochs" in told
    assert "19.5 passes over the images are few: --time 3m (train.minutes=3) would make about 20" in told
    training.recipe.eval.every = 20  # evaluations on the way: half a second more for each step
    training.length = build_training(timed_recipe("simclr", tmp_path, 2)).length
    timed.decide_length(training, 0, {"evaluation_seconds": 10.0})
    assert training.total_steps == int(78.4 / 1.5)
    seconds(0.5, spent=20)
    training.length = build_training(timed_recipe("simclr", tmp_path, 2)).length
    capsys.readouterr()
    timed.decide_length(training, 0, {"evaluation_seconds": 0.0})
    assert "are few" not in capsys.readouterr().out


def test_a_new_run_gets_half_of_the_time_for_its_steps(tmp_path, seconds):
    seconds(1.0, spent=1000)
    training = build_training(timed_recipe("simclr", tmp_path, 2))
    timed.decide_length(training, 0, {})
    assert training.total_steps == 58


def test_a_resumed_run_keeps_the_decision_and_another_time_decides_anew(tmp_path, seconds, capsys):
    seconds(7.0)
    training = build_training(timed_recipe("simclr", tmp_path, 1))
    notes = train(training)
    assert training.total_steps == 7 and notes["length"]["minutes"] == 1  # 90 % of 60 s
    seconds(1.0)
    assert build_training(timed_recipe("simclr", tmp_path, 1)).total_steps == 7
    longer = build_training(timed_recipe("simclr", tmp_path, 2))
    assert longer.length.pending
    longer.clock.before = 0.0
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    train(longer)
    assert longer.total_steps == 7 + int(0.98 * 108) and longer.length.minutes == 2
    assert "had ended, or nearly, and within" in capsys.readouterr().out
    fixed = build_training(tiny("simclr", tmp_path, steps=200, checkpoint_every=None))
    assert fixed.total_steps == 200 and fixed.length.minutes is None


def test_ten_checkpoints_are_written(tmp_path, seconds):
    seconds(2.0)
    training = build_training(timed_recipe("simclr", tmp_path, 1, keep_checkpoints=100))
    train(training)
    assert training.total_steps == 26
    saved = [int(path.name[5:]) for path in (tmp_path / "checkpoints").glob("step_*")]
    assert sorted(saved) == [*range(2, 27, 2)]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_it_is_the_run_of_as_many_steps(processes, recipe_file, tmp_path):
    """All processes decide alike, and a run for a time ends bit by bit as ``train.steps`` would."""
    recipe, folder, alone = recipe_file("dino"), tmp_path / "timed", tmp_path / "alone"
    arguments = ["train.minutes=0.05", "train.checkpoint_every=5", "data.cache=true"]
    process = Run(recipe, folder, *arguments, processes=processes)
    wait_for_step(process, 7)
    process.signal(signal.SIGKILL)
    process.wait()
    again = run(recipe, folder, *arguments, processes=processes)
    assert again.code == 0, again.output
    steps = json.loads((folder / "result.json").read_text())["steps"]
    left_alone = run(recipe, alone, f"train.steps={steps}", "data.cache=true", processes=processes)
    assert left_alone.code == 0, left_alone.output
    assert_same_end(folder, alone)


def test_the_evaluation_keeps_to_a_fifth_of_the_time(recipe_file, tmp_path, seconds, monkeypatch, capsys):
    """0.05 s for each image and two encodings: 60 of the 64 + 32 images for a fifth of 45 s, told and kept by a resumed run."""
    seconds(2.0)
    monkeypatch.setattr(budget, "FEWEST", 4)
    monkeypatch.setattr(run_budget, "measured_cost", lambda *_: budget.Cost(0.05, 0.05, 0.0, 0.0))
    recipe = load_recipe(
        recipe_file("simclr"), [f"train.output={tmp_path / 'run'}", "train.minutes=0.75", "eval.every="]
    )
    run_training(recipe)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    count = result["counts"]["knn_accuracy"]
    used = count["train_images"] + count["test_images"]
    assert used * 0.15 <= 9 and used * 0.15 > 0.7 * 9
    told = f"on {count['test_images']} of 355 test images, by {count['train_images']} of 200 train images"
    assert told in capsys.readouterr().out
    monkeypatch.setattr(run_budget, "measured_cost", lambda *_: budget.Cost(1.0, 1.0, 0.0, 0.0))
    run_training(recipe)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["counts"] == result["counts"]
