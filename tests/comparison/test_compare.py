"""A comparison from the first run to the table: skipped, continued, failed and interrupted runs."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import tiny_runs

from hfcontrast.commands import cli
from hfcontrast.comparison import compare as comparing
from hfcontrast.comparison.compare import compare
from hfcontrast.comparison.plan import plan
from hfcontrast.comparison.processes import Processes, first_error, training_command
from hfcontrast.errors import OutputError
from hfcontrast.lock import hold

# Stands for a training: does what its recipe's name says.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
name, folder, result = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
if name == "broken":
    print("epoch 1", "\\r", end="")
    print("error: the pictures are gone", file=sys.stderr)
    print("error: and more", file=sys.stderr)
    sys.exit(2)
if name == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if name == "slow":
    def save(number, frame):
        print("saved", flush=True)
        os._exit(128 + number)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, save)
    print("ready", flush=True)
    time.sleep(60)
folder.joinpath("result.json").write_text(result)
print("trained: é")
"""


@pytest.fixture
def stand_ins(monkeypatch, result):
    """Puts the stand-in in the place of trainings; returns the list of the arguments that they were started with."""
    started, planned = [], {}

    def remembered(*arguments):
        runs = plan(*arguments)
        planned.update({str(run.folder): run for run in runs})
        return runs

    def command(arguments, device):
        started.append(arguments)
        folder = json.loads(next(item for item in arguments if item.startswith("train.output="))[13:])
        run = planned[folder]
        written = json.dumps(result(run, pixels="eval.baselines=encoder" not in arguments))
        return [sys.executable, "-c", STAND_IN, run.name, folder, written]

    monkeypatch.setattr(comparing, "plan", remembered)
    monkeypatch.setattr(comparing, "training_command", command)
    return started


def names(started):
    return [Path(arguments[0]).stem for arguments in started]


def table(folder):
    return json.loads((folder / "table.json").read_text())


def test_a_failed_run_is_shown_and_stops_no_other(recipe_file, tmp_path, stand_ins, capsys):
    files = [recipe_file(name) for name in ("first", "broken", "killed", "last")]
    assert compare(files, [], tmp_path / "out") == 1
    assert names(stand_ins) == ["first", "broken", "killed", "last"]
    errors = {run["name"]: run["error"] for run in table(tmp_path / "out")["runs"]}
    assert errors == {
        "first": None,
        "broken": "the pictures are gone",
        "killed": "killed by SIGKILL (out of memory?)",
        "last": None,
    }
    assert "broken, seed 0, failed: the pictures are gone" in (tmp_path / "out" / "table.md").read_text()
    assert "and more" in (tmp_path / "out" / "broken" / "run.log").read_text()
    shown = capsys.readouterr()
    assert "trained: é" in shown.err and "the pictures are gone" in shown.out

    stand_ins.clear()  # the same command tries again what has failed, and nothing else
    assert compare(files, [], tmp_path / "out") == 1
    assert names(stand_ins) == ["broken", "killed"]
    assert "finished before" in capsys.readouterr().err


def test_finished_runs_are_skipped_and_new_ones_join_them(recipe_file, tmp_path, stand_ins):
    assert compare([recipe_file("first")], ["train.steps=3"], tmp_path / "out") == 0
    assert compare([recipe_file("first"), recipe_file("second")], ["train.steps=3"], tmp_path / "out") == 0
    assert names(stand_ins) == ["first", "second"]
    assert [row["name"] for row in table(tmp_path / "out")["rows"]][-2:] == ["first", "second"]
    assert compare([recipe_file("first")], ["train.steps=4"], tmp_path / "out") == 0
    assert names(stand_ins) == ["first", "second", "first"]  # of another recipe, which the run itself would refuse


def test_raw_pixels_are_evaluated_once(recipe_file, tmp_path, stand_ins):
    compare([recipe_file("first"), recipe_file("second")], [], tmp_path / "out", seeds=[0, 1])
    assert ["eval.baselines=encoder" in arguments for arguments in stand_ins] == [False, True, True, True]
    found = table(tmp_path / "out")["rows"]
    assert [row["name"] for row in found] == ["raw pixels", "untrained encoder", "first", "second"]
    assert found[1]["seeds"] == [0, 1]


def test_several_runs_at_once_give_the_table_of_one_after_another(recipe_file, tmp_path, stand_ins, capsys):
    files = [recipe_file(name) for name in ("first", "broken", "second", "third")]
    assert compare(files, [], tmp_path / "one") == 1
    in_turn, shown_in_turn = len(stand_ins), capsys.readouterr().err
    assert compare(files, [], tmp_path / "several", jobs=3) == 1
    shown = capsys.readouterr().err
    assert "trained" in shown_in_turn and "trained" not in shown  # what several print would be mixed up
    assert "trained" in (tmp_path / "several" / "third" / "run.log").read_text()
    assert "third, seed 0: finished" in shown and "broken, seed 0: finished" not in shown
    rows, before = table(tmp_path / "several")["rows"], table(tmp_path / "one")["rows"]
    assert [(row["name"], row.get("unfinished")) for row in rows] == [
        (row["name"], row.get("unfinished")) for row in before
    ]
    assert sum("eval.baselines=encoder" not in arguments for arguments in stand_ins[:in_turn]) == 1


def test_a_signal_stops_all_runs_in_progress(recipe_file, tmp_path, stand_ins, capsys):
    files, out = [recipe_file(name) for name in ("slow", "last")], tmp_path / "out"

    def interrupt():
        end, lines = time.monotonic() + 30, {"slow": "ready", "last": "trained"}
        logs = {out / name / "run.log": line for name, line in lines.items()}
        while (
            not all(log.exists() and line in log.read_text() for log, line in logs.items()) and time.monotonic() < end
        ):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert compare(files, [], out, jobs=2) == 128 + signal.SIGTERM
    thread.join()
    assert "stopped by SIGTERM in slow, seed 0; 1 of 2 runs" in capsys.readouterr().err
    assert "saved" in (out / "slow" / "run.log").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_current_run_which_saves_and_then_the_comparison(
    number, recipe_file, tmp_path, stand_ins, capsys
):
    files, out = [recipe_file(name) for name in ("first", "slow", "last")], tmp_path / "out"

    def interrupt():
        log, end = out / "slow" / "run.log", time.monotonic() + 30
        while not (log.exists() and "ready" in log.read_text()) and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.getsignal(number)
    code = compare(files, [], out)
    thread.join()
    assert code == 128 + number
    assert signal.getsignal(number) is before
    assert names(stand_ins) == ["first", "slow"]
    shown = capsys.readouterr().err
    assert "saved" in shown and "Traceback" not in shown
    assert f"stopped by {number.name} in slow, seed 0; 2 of 3 runs are not finished" in shown
    states = {row["name"]: row.get("unfinished") for row in table(out)["rows"]}
    assert states["first"] == [] and states["slow"] == states["last"] == [0]


@pytest.mark.parametrize(
    "number, line", [(signal.SIGINT, "interrupted\n"), (signal.SIGTERM, "stopped; the same command resumes\n")]
)
def test_a_signal_before_the_first_run_ends_the_command_with_one_line(number, line, monkeypatch, capsys):
    monkeypatch.setattr(comparing, "compare", lambda *arguments: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    assert cli.main(["compare", "a.yaml"]) == 128 + number
    assert capsys.readouterr().err == line and signal.getsignal(number) is before


def test_a_run_that_was_evaluated_otherwise_fails_without_being_touched(recipe_file, tmp_path, stand_ins):
    file, out = recipe_file("first"), tmp_path / "out"
    compare([file], [], out)
    (out / "first" / "checkpoints" / "step_000000014").mkdir(parents=True)
    plan([file], [], out)[0].recipe.save(out / "first" / "recipe.yaml")
    assert compare([file], ["eval.knn_k=5"], out) == 1
    assert len(stand_ins) == 1
    assert "eval.tasks.knn.k: 20 -> 5" in table(out)["runs"][0]["error"]


def test_an_output_that_cannot_be_made(recipe_file, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["compare", str(recipe_file("first")), "--output", str(tmp_path / "file" / "out")]) == 2
    assert "--output: nothing can be written to " in capsys.readouterr().err


def test_the_command_line(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(comparing, "compare", lambda *arguments: calls.append(arguments) or 7)
    first = ["compare", "a.yaml", "train.epochs=5", "b.yaml", "--seeds", "0", "1", "optim.lr=1", "--output", "out"]
    assert cli.main([*first, "backbone={model_type: vit}"]) == 7
    assert cli.main(["compare", "a.yaml", "--common", "shared.yaml", "--jobs", "4"]) == 7
    overrides = ["train.epochs=5", "optim.lr=1", "backbone={model_type: vit}"]
    assert calls == [
        (["a.yaml", "b.yaml"], overrides, "out", [0, 1], None, 1, False),
        (["a.yaml"], [], "outputs/compare", [], "shared.yaml", 4, False),
    ]


def test_several_gpus_train_together(monkeypatch):
    plain = [sys.executable, "-m", "hfcontrast.run", "r.yaml", "optim.lr=1"]
    launched = [sys.executable, "-m", "accelerate.commands.launch", *plain[1:]]
    for count, device, expected in [(0, "auto", plain), (1, "auto", plain), (4, "auto", launched), (4, "cpu", plain)]:
        monkeypatch.setattr("torch.cuda.device_count", lambda count=count: count)
        assert training_command(["r.yaml", "optim.lr=1"], device) == expected


@pytest.mark.parametrize(
    "code, text, expected",
    [
        (2, "10%|#\r20%|##\rerror: r.yaml:3: a\n b\nerror: c\n", "r.yaml:3: a"),
        (1, "Traceback (most recent call last):\n  File x\nValueError: odd\n", "ValueError: odd"),
        (
            1,
            "[rank1]: torch.OutOfMemoryError: CUDA out of memory\nlauncher.ChildFailedError: x",
            "torch.OutOfMemoryError: CUDA out of memory",
        ),
        (-15, "some text\n", "killed by SIGTERM"),
        (3, "the end\n\n", "the end"),
        (3, "", "ended with exit code 3"),
    ],
)
def test_the_first_error_of_a_run(code, text, expected):
    assert first_error(code, text) == expected


def test_real_trainings(recipe_file, tmp_path, monkeypatch, capsys):
    """Two methods and a recipe that cannot be trained, in processes that have imported everything."""

    def forked(self, command, log):
        recipe, *overrides = command[command.index("hfcontrast.run") + 1 :]
        return tiny_runs.run(Path(recipe), log.parent, *overrides)

    monkeypatch.setattr(Processes, "run", forked)
    files = [recipe_file("one"), recipe_file("two", "dino"), recipe_file("three", "dino", views="{all: {size: 18}}")]
    out = tmp_path / "out"
    assert compare(files, ["train.steps=4", "eval.every=2"], out) == 1
    found = table(out)
    runs = {run["name"]: run for run in found["runs"]}
    for name in ("one", "two"):
        result, folder = runs[name]["result"], out / name
        assert result == json.loads((folder / "result.json").read_text())
        evaluated = [line["eval"] for line in tiny_runs.metrics(folder) if "eval" in line]
        assert [("linear_accuracy" in scores) for scores in evaluated] == [False, True]
        assert result["scores"]["trained"] == evaluated[-1]
        assert result["recipe_hash"] == runs[name]["recipe_hash"]
        assert result["images_per_second"] > 0 and result["peak_memory"] > 100 << 20
    assert "patches of 4 px" in runs["three"]["error"]
    assert "raw_pixels" in runs["one"]["result"]["scores"] and "raw_pixels" not in runs["two"]["result"]["scores"]
    assert [row["name"] for row in found["rows"]] == [
        "chance",
        "raw pixels (one, two)",
        "untrained encoder (one)",
        "untrained encoder (two)",
        "one",
        "two",
        "three",
    ]
    before = (out / "one" / "result.json").stat().st_mtime_ns
    capsys.readouterr()
    assert compare(files[:2], ["train.steps=4", "eval.every=2"], out) == 0
    assert capsys.readouterr().err.count("finished before") == 2
    assert (out / "one" / "result.json").stat().st_mtime_ns == before


def test_finished_runs_are_evaluated_by_more_without_being_trained(recipe_file, tmp_path, monkeypatch, capsys):
    def forked(self, command, log):
        recipe, *overrides = command[command.index("hfcontrast.run") + 1 :]
        return tiny_runs.run(Path(recipe), log.parent, *overrides)

    monkeypatch.setattr(Processes, "run", forked)
    files, out = [recipe_file("one"), recipe_file("two", temperature="0.5}")], tmp_path / "out"
    more = "eval.finetune={epochs: 2, batch_size: 32}"
    assert compare(files, ["train.steps=4"], out) == 0
    before = {run["name"]: run["result"] for run in table(out)["runs"]}
    lines = {name: tiny_runs.metrics(out / name) for name in before}
    newest = {name: max((out / name / "checkpoints").glob("step_*")) for name in before}
    written = {name: (folder / "model.safetensors").stat().st_mtime_ns for name, folder in newest.items()}
    capsys.readouterr()
    assert compare(files, ["train.steps=4", more], out) == 0
    assert capsys.readouterr().err.count("evaluated again") == 2
    for run in table(out)["runs"]:
        name, result, former = run["name"], run["result"], before[run["name"]]
        tuned = {stage: result["scores"][stage].pop("finetune_accuracy") for stage in ("untrained", "trained")}
        assert all(0 < accuracy <= 1 for accuracy in tuned.values())
        assert result["scores"]["chance"].pop("finetune_accuracy") == former["scores"]["chance"]["knn_accuracy"]
        for words in ("verdict", "conclusions", "causes", "beats_baselines", "chance_answers", "measured_on"):
            result.pop(words, None), former.pop(words, None)  # they speak of the new figure too
        assert result["counts"].pop("finetune_accuracy")["test_images"] == 32
        assert result == former  # scores, images/s and peak memory are what they were; raw pixels too
        assert [line for line in tiny_runs.metrics(out / name) if "loss" in line] == [
            x for x in lines[name] if "loss" in x
        ]
        assert (newest[name] / "model.safetensors").stat().st_mtime_ns == written[name]
        assert "Fine-tuning: the encoder and a linear classifier" in (out / name / "README.md").read_text()
    assert "raw_pixels" in before["one"]["scores"] and "raw_pixels" not in before["two"]["scores"]
    assert "fine-tuning, %" in (out / "table.md").read_text()
    assert compare(files, ["train.steps=4", more], out) == 0
    assert capsys.readouterr().err.count("finished before") == 2


def test_a_real_training_in_a_process_of_its_own(recipe_file, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    assert compare([recipe_file("one")], ["train.steps=1"], tmp_path / "out") == 0
    assert "linear probe" in (tmp_path / "out" / "one" / "run.log").read_text()
    assert table(tmp_path / "out")["rows"][-1]["linear_accuracy"]["mean"] > 0


def test_a_folder_of_a_comparison_has_one_at_a_time(recipe_file, tmp_path):
    with multiprocessing.get_context("fork").Pool(1) as other:
        other.apply(hold, (tmp_path, "--output"))
        with pytest.raises(OutputError, match="is in use by another run .process .*choose another --output"):
            compare([recipe_file("one")], output=tmp_path)
