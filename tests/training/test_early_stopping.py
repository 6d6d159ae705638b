"""Early stopping: what it does when an encoder gets worse, that it changes nothing where none does, and that a crash leaves no trace."""

import math
from types import SimpleNamespace

import pytest
import torch
from test_every_method import Crash, state, tiny

from hfcontrast.errors import CheckpointError
from hfcontrast.publishing.told import told_early_stopping
from hfcontrast.recipe.unread import unread_settings
from hfcontrast.training.build import build_training
from hfcontrast.training.early_stopping import NOTE, EarlyStopping, seconds_of_measurements
from hfcontrast.training.loop import train


class Scripted:
    """Measures what the test says: one accuracy for the start, then one after another; by the step, so that a resumed run has the same."""

    labeled = True

    def __init__(self, *accuracies, **others):
        self.accuracies, self.others, self.training = accuracies, others, None

    def begin(self, encoder):
        pass

    def __call__(self, encoder):
        torch.rand(3)  # as dropout or a classifier might
        done = int(self.training.method.progress.step) + 1 if self.training.begun else 0
        accuracy = self.accuracies[min(done, len(self.accuracies) - 1)]
        if accuracy is None:
            return {}
        figures = {"rankme": 8.0, "shared_with_start": 0.9, "view_agreement": accuracy, "alignment": 0.1}
        return {"knn": accuracy, "uniformity": -2.0} | figures | {k: v[min(done, len(v) - 1)] for k, v in self.others.items()}  # fmt: skip


def stopped(folder, accuracies, steps=7, name="byol", freeze=0, others=None, crash=None, **settings):
    """Trains; returns the training, what early stopping noted, and the learning rates of the steps."""
    recipe = tiny(name, folder, steps=steps)
    recipe.optim.freeze_encoder_steps, recipe.optim.schedule = freeze, "constant"
    for key, value in {"every": 1, "patience": 1, "lr_factor": 0.5, **settings}.items():
        setattr(recipe.early_stopping, key, value)
    training = build_training(recipe)
    monitor = Scripted(*accuracies, **(others or {}))
    monitor.training = SimpleNamespace(method=training.method, begun=False)
    stopping, rates, states = EarlyStopping(training, monitor), [], {}
    begun = training.optimizer_step
    after_step = training.method.after_step

    def look(outputs, progress):
        monitor.training.begun = True
        rates.append(training.optimizer.param_groups[0]["lr"])
        after_step(outputs, progress)
        states[progress.step + 1] = {key: value.clone() for key, value in training.method.state_dict().items()}
        if progress.step == crash:
            raise Crash

    training.method.after_step = look
    assert begun
    notes = train(training, None, stopping)
    return training, notes[NOTE], rates, states


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_where_nothing_gets_worse_the_training_is_that_without_it(tmp_path):
    recipe = tiny("byol", tmp_path / "without")
    recipe.optim.schedule = "constant"
    train(without := build_training(recipe))
    training, note, _, _ = stopped(tmp_path / "with", [0.5, 0.51, 0.505, 0.52, 0.6, 0.6, 0.6, 0.595])
    assert equal(state(without), state(training))
    assert note["published"] == "end" and note["reductions"] == [] and note["best_step"] == 4
    assert told_early_stopping(note)[0] == (
        "Published is the end of the training, by kNN accuracy on a fifth of the training images: the end 59.5%, the start 50.0%."
    )


def test_the_best_state_is_restored_and_the_rate_lowered_then_the_training_ends(tmp_path, capsys):
    accuracies = [0.5, 0.6, 0.4, 0.55, 0.4, 0.4, 0.4, 0.4]
    training, note, rates, states = stopped(tmp_path, accuracies, max_reductions=2)
    assert note["reductions"] == [2, 3] and note["stopped_at"] == 4 == training.total_steps
    assert [round(rate / rates[0], 4) for rate in rates] == [1, 1, 0.5, 0.25]
    assert note["published"] == "best" and note["best_step"] == 1
    assert equal(training.method.state_dict(), states[1])
    told = " ".join(told_early_stopping(note))
    assert "Published is the encoder of step 1, the best of 4 measurements" in told and "60.0%, the end 40.0%" in told
    assert "lowered at step 2 and 3" in told and "ended early, at step 4" in told
    # started again, it stays ended
    again, after, rates, _ = stopped(tmp_path, accuracies, max_reductions=2)
    assert rates == [] and after == note and equal(again.method.state_dict(), states[1])


def test_patience_waits_for_measurements_in_a_row(tmp_path):
    _, note, _, _ = stopped(tmp_path, [0.5, 0.3, 0.5, 0.3, 0.3, 0.5, 0.5, 0.5], patience=2)
    assert note["reductions"] == [4] and note["published"] == "end"


@pytest.mark.parametrize("worse", [{"rankme": [8.0, 3.9]}, {"accuracies": [0.5, None]}])
def test_a_collapse_is_worse_whatever_the_accuracy(worse, tmp_path):
    accuracies = worse.pop("accuracies", [0.5, 0.9])
    training, note, _, _ = stopped(tmp_path, accuracies, others=worse, max_reductions=0)
    assert note["stopped_at"] == 1 and note["published"] == "start"
    assert "Published is the start" in told_early_stopping(note)[0]


def test_without_labels_an_encoder_that_forgets_its_neighbors_is_worse(tmp_path):
    others = {"shared_with_start": [1.0, 0.5, 0.1]}
    for metric, ended in (("label_free", 2), ("auto", None)):
        _, note, _, _ = stopped(tmp_path / metric, [0.5, 0.9], others=others, metric=metric, max_reductions=0)
        assert note["stopped_at"] == ended


def test_the_start_is_published_with_its_weights_and_heads_that_are_warmed_up(tmp_path):
    """A last measurement below the start, if by less than what counts as worse."""
    training, note, _, states = stopped(tmp_path, [0.5] * 7 + [0.495], freeze=3)
    assert note["published"] == "start" and note["best_step"] == 3
    assert [measured["step"] for measured in note["measurements"]] == [4, 5, 6, 7]
    before = build_training(tiny("byol", tmp_path / "before")).method.encoder.state_dict()
    assert equal(training.method.encoder.state_dict(), before) and equal(training.method.state_dict(), states[3])


@pytest.mark.parametrize("name", ["byol", "moco_v2"])
@pytest.mark.parametrize("at", [4, 6])
def test_a_crash_leaves_no_trace(name, at, tmp_path):
    """Checkpoints of steps 3 and 6; the best state is of step 2, and restored in step 5, before or after the crash."""
    accuracies = [0.5, 0.55, 0.6, 0.6, 0.4, 0.4, 0.62, 0.61, 0.61]
    alone, note, _, _ = stopped(tmp_path / "alone", accuracies, 8, name, patience=2)
    with pytest.raises(Crash):
        stopped(tmp_path / "crashed", accuracies, 8, name, patience=2, crash=at)
    again, after, _, _ = stopped(tmp_path / "crashed", accuracies, 8, name, patience=2)
    assert note["reductions"] == [5]
    assert {**note, "seconds": 0} == {**after, "seconds": 0} and equal(state(alone), state(again))


def test_a_run_begun_without_it_is_another_run(tmp_path):
    train(build_training(tiny("simclr", tmp_path)))
    with pytest.raises(CheckpointError):
        stopped(tmp_path, [0.5], name="simclr")


def test_the_section_is_no_other_recipe_while_it_is_off(tmp_path):
    recipe = tiny("simclr", tmp_path)
    before = recipe.fingerprint().hash
    recipe.early_stopping.patience = 5
    assert recipe.fingerprint().hash == before
    recipe.early_stopping.every = "auto"
    assert recipe.fingerprint().hash != before


def test_a_run_for_a_time_measures_no_more_than_a_tenth_of_it():
    state = {"seconds": 10.0}
    assert seconds_of_measurements({NOTE: state}, "auto", 20) == (120.0, 0.0) and state["count"] == 12
    assert seconds_of_measurements({NOTE: {"seconds": 0.1}}, "auto", 20)[0] == pytest.approx(2.0)
    assert seconds_of_measurements({NOTE: {"seconds": 10.0}}, 50, 20) == (0.0, 0.2)
    assert seconds_of_measurements({}, "auto", 20) == (0.0, 0.0)


def test_settings_that_nothing_reads_are_told(tmp_path):
    recipe = tiny("simclr", tmp_path)
    recipe.early_stopping.patience = 5
    assert any("early_stopping.patience is 5 and has no effect" in text for text in unread_settings(recipe, False))
    recipe.early_stopping.every = 3
    assert not any("early_stopping" in text for text in unread_settings(recipe, False))


def test_auto_measures_a_twentieth_of_the_run(tmp_path):
    recipe = tiny("simclr", tmp_path, steps=100)
    recipe.early_stopping.every = "auto"
    stopping = EarlyStopping(build_training(recipe), Scripted(0.5))
    assert stopping.every == 5 and math.isclose(stopping.lr_factor, 1.0)
    assert stopping.due(5) and stopping.due(100) and not stopping.due(4)
