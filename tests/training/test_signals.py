"""Signals that ask a run to stop: at once where nothing has to be saved, after the step elsewhere, and never twice."""

import os
import signal
import socket
import sys
import threading
import time

import pytest
import torch

from hfcontrast import run
from hfcontrast.errors import HFContrastError
from hfcontrast.run import follow_launcher
from hfcontrast.signals import SIGNALS, Interrupted, held_back, stopping_at_once
from hfcontrast.training import interrupts as watch
from hfcontrast.training import loop


def send(number):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers_are_restored():
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_block_with_nothing_to_save_ends_at_once(number):
    refused = pytest.raises(Interrupted, match="^stopped before the first step")
    with refused as stop, stopping_at_once("outside"), stopping_at_once("stopped before the first step"):
        try:
            send(number)
        except Exception:
            pytest.fail("an error handler has kept it")
        finally:
            send(signal.SIGTERM)  # launchers send more than one: it must not end the cleaning up
    assert stop.value.signal_number == number


def test_a_second_ctrl_c_is_obeyed_after_a_while_only(monkeypatch):
    monkeypatch.setattr("hfcontrast.signals._IMPATIENT", 0.0)
    with pytest.raises(KeyboardInterrupt), stopping_at_once("stopped"):
        try:
            send(signal.SIGINT)
        except Interrupted:
            send(signal.SIGINT)


def test_the_watch_remembers_and_the_step_is_finished():
    with watch.Watch() as watching:
        assert watching.asked == 0 == watching.step(1, torch.tensor(1.0))
        send(signal.SIGUSR1)
        send(signal.SIGTERM)
        assert watching.step(2, torch.tensor(1.0)) == signal.SIGUSR1 == watching.asked


class Finalized:
    """Is sent a signal in its finalizer, whose errors Python only prints."""

    def __del__(self):
        send(signal.SIGTERM)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_in_a_finalizer_is_obeyed_as_soon_as_can_be():
    behind = []
    with pytest.raises(Interrupted, match="inner"), stopping_at_once("outer"), stopping_at_once("inner"):
        Finalized()
    with pytest.raises(Interrupted, match="next"), stopping_at_once("outer"):
        Finalized()
        with stopping_at_once("next"):
            behind.append("next")
    with stopping_at_once("outer"):
        Finalized()
        behind.append("end")
    assert behind == ["end"]


def test_an_error_that_a_library_raises_in_place_of_it_is_not_reported():
    with pytest.raises(Interrupted, match="stopped"), stopping_at_once("stopped"):
        try:
            send(signal.SIGTERM)
        except BaseException:
            raise ValueError("could not determine the shape of an object") from None
    with pytest.raises(ValueError, match="its own"), stopping_at_once("stopped"):
        raise ValueError("its own")


def test_other_threads_leave_the_signals_alone():
    found = []

    def work():
        with stopping_at_once("stopped"), watch.Watch():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_held_back_signals_come_afterwards():
    order = []
    with pytest.raises(Interrupted), stopping_at_once("stopped"):
        with held_back():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # the process has other threads, of libraries
            order.append("inside")
        order.append("behind")
    assert order == ["inside"]


def test_a_signal_in_the_last_save_ends_the_run_before_its_evaluation(recipe_file, tmp_path, monkeypatch):
    training, evaluated = tiny_training(recipe_file, tmp_path, "train.steps=2"), []
    save = training.checkpoints.save

    def interrupted_save(step, *arguments):
        if step == 2:
            send(signal.SIGINT)
        return save(step, *arguments)

    monkeypatch.setattr(training.checkpoints, "save", interrupted_save)
    evaluate = Scored(lambda thorough: evaluated.append(thorough))
    with pytest.raises(Interrupted, match="after the last step, which is saved"):
        loop.train(training, evaluate)
    assert evaluated == [True] and training.checkpoints.newest().name == "step_000000002"
    with pytest.raises(Interrupted, match="after the last step, which is saved") as stop:
        loop.train(tiny_training(recipe_file, tmp_path, "train.steps=2"), Scored(lambda thorough: send(signal.SIGTERM)))
    assert stop.value.signal_number == signal.SIGTERM


def test_before_the_first_step_a_run_stops_with_a_sentence_and_keeps_what_was_evaluated(recipe_file, tmp_path):
    with pytest.raises(Interrupted, match="stopped before the first step"):
        loop.train(tiny_training(recipe_file, tmp_path), Scored(lambda thorough: send(signal.SIGTERM)))
    calls = []
    training = tiny_training(recipe_file, tmp_path)
    step, notes, _ = loop.begin(training, Scored(calls.append))
    again = loop.begin(tiny_training(recipe_file, tmp_path), Scored(calls.append))
    assert calls == [True] and step == again[0] == 0
    assert again[1]["untrained"] == notes["untrained"] == {"knn_accuracy": 0.5}
    loop.begin(tiny_training(recipe_file, tmp_path), Scored(calls.append, {"data": "another"}))
    loop.begin(tiny_training(recipe_file, tmp_path, "optim.lr=0.5"), Scored(calls.append, {"data": "another"}))
    assert calls == [True] * 3  # other conditions, another recipe: evaluated again


def test_a_resumed_run_says_that_other_rows_are_evaluated_on(recipe_file, tmp_path, capsys):
    loop.train(tiny_training(recipe_file, tmp_path, "train.steps=1"), Scored(lambda thorough: None))
    loop.begin(tiny_training(recipe_file, tmp_path, "train.steps=1"), Scored(lambda thorough: None))
    assert "rows that are evaluated on" not in capsys.readouterr().err
    other = Scored(lambda thorough: None, {"data": "other rows"})
    _, notes, _ = loop.begin(tiny_training(recipe_file, tmp_path, "train.steps=1"), other)
    assert "the rows that are evaluated on, or the settings" in capsys.readouterr().err
    assert notes["untrained_conditions"] == {"data": "other rows"}


class Scored:
    """An evaluation that only calls a function."""

    def __init__(self, function, conditions=None):
        self.function, self.conditions = function, conditions or {"data": "rows"}

    def __call__(self, encoder, thorough=False):
        self.function(thorough)
        return {"knn_accuracy": 0.5}

    def missing(self, scores):
        return []


def tiny_training(recipe_file, tmp_path, *overrides):
    from hfcontrast.recipe import load_recipe
    from hfcontrast.training.build import build_training

    return build_training(load_recipe(recipe_file("simclr"), [*overrides, f"train.output={tmp_path / 'run'}"]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_waits_for_others_says_so_and_can_be_ended(recipe_file, tmp_path, monkeypatch):
    from hfcontrast.recipe import load_recipe
    from hfcontrast.training import engines

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in alone.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(engines, "_PATIENCE", 0.05)
    recipe = load_recipe(recipe_file("simclr"), [f"train.output={tmp_path}", "train.device=cpu"])
    here, there = os.pipe()
    if (waiting := os.fork()) == 0:
        signal.alarm(20)
        with os.fdopen(there, "w") as sys.stderr, stopping_at_once("never reached"):
            engines.build_accelerator(recipe)
        os._exit(0)
    os.close(there)
    said = os.read(here, 200).decode()
    os.kill(waiting, signal.SIGTERM)
    assert os.WTERMSIG(os.waitpid(waiting, 0)[1]) == signal.SIGTERM
    assert said == f"waiting for the other 1 of 2 processes at 127.0.0.1:{port}\n"
    os.close(here)


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells it on Linux only")
@pytest.mark.parametrize("name", ["ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"])
def test_a_run_whose_launcher_is_killed_is_asked_to_stop(name):
    here, there = os.pipe()
    if (launcher := os.fork()) == 0:
        if os.fork() == 0:
            os.environ[name] = "no"
            follow_launcher()
            signal.signal(signal.SIGTERM, lambda *_: (os.write(there, b"asked"), os._exit(0)))
            os.write(there, b"ready")
            time.sleep(20)
            os._exit(0)
        time.sleep(20)
        os._exit(0)
    os.close(there)
    assert os.read(here, 5) == b"ready"
    os.kill(launcher, signal.SIGKILL)
    os.waitpid(launcher, 0)
    assert os.read(here, 5) == b"asked"
    os.close(here)


def test_an_interruption_that_a_library_makes_an_error_of_ends_the_command_as_one(monkeypatch, capsys):
    def load_recipe(*arguments, **keywords):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException as error:
            raise HFContrastError("a library has caught it") from error

    monkeypatch.setattr(run, "load_recipe", load_recipe)
    assert run.main(["recipe.yaml"]) == 128 + signal.SIGTERM
    assert "a library" not in capsys.readouterr().err
