"""Checkpoints: damaged files are refused, nothing is unpickled, and those of older versions are still resumed."""

import json
import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from hfcontrast.encoders.pretrained import reason
from hfcontrast.errors import CheckpointError, OutputError
from hfcontrast.training.checkpoint import Checkpoints, _unreadable

POSITION = {"micro_batch": 3, "unreadable": {"a\udc80.png": "cut off"}, "cut_off": 0, "states": [{"block": None}]}
NOTES = {"untrained": {"knn_accuracy": 0.25}}


class Part:
    """A small training: what is saved of it, and a draw of each kind of random numbers."""

    def __init__(self, folder: Path):
        self.accelerator = Accelerator(cpu=True)
        model = nn.Linear(40, 40)
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(1, 40)).sum().backward()
        optimizer.step()
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.checkpoints = Checkpoints(folder, self.accelerator, keep=3)

    def draw(self) -> tuple:
        return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.fixture
def part(tmp_path):
    return Part(tmp_path / "checkpoints")


@pytest.fixture
def saved(part):
    return part.checkpoints.save(7, POSITION, NOTES)


def _as_older_versions_wrote_it(checkpoint: Path) -> None:
    state = json.loads((checkpoint / "run.json").read_text())
    (checkpoint / "run.json").write_text(json.dumps({key: state[key] for key in ("step", "num_processes", "notes")}))
    (checkpoint / "loader_0.json").unlink(missing_ok=True)
    torch.save(POSITION, checkpoint / "loader_0.pt")


@pytest.mark.parametrize("older", [False, True])
def test_what_was_saved_is_restored(older, part, saved):
    expected, weight = part.draw(), part.model.weight.detach().clone()
    if older:
        _as_older_versions_wrote_it(saved)
    with torch.no_grad():
        part.model.weight.zero_()
    assert part.checkpoints.load(saved) == (7, POSITION, NOTES)
    assert torch.equal(part.model.weight, weight)
    assert part.draw() == expected


def test_every_file_that_is_damaged_or_missing_is_refused(part, saved):
    files = [file for file in saved.rglob("*") if file.is_file()]
    assert {"random_states_0.pkl", "loader_0.json", "optimizer.bin", "model.safetensors"} <= {f.name for f in files}
    for file in files:
        whole = file.read_bytes()
        middle = len(whole) // 2
        for damaged in (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], whole[:middle], b"", None):
            file.unlink() if damaged is None else file.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=None if file.name == "run.json" else file.name) as error:
                part.checkpoints.load(saved)
            assert "remove this folder" in str(error.value) and "\n" not in str(error.value)
            file.write_bytes(whole)
    part.checkpoints.load(saved)


@pytest.mark.parametrize("damage", [None, b"", b"no pickle", "empty"])
def test_random_states_are_required_of_older_checkpoints_too(damage, part, saved):
    _as_older_versions_wrote_it(saved)
    file = saved / "random_states_0.pkl"
    if damage == "empty":
        torch.save({"step": 0}, file)
    elif damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    with pytest.raises(CheckpointError, match="random_states_0.pkl|remove this folder"):
        part.checkpoints.load(saved)


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def test_nothing_in_a_checkpoint_is_unpickled(part, saved, tmp_path):
    _as_older_versions_wrote_it(saved)
    proof = tmp_path / "executed"
    for name in ("loader_0.pt", "optimizer.bin", "random_states_0.pkl", "pytorch_model.bin"):
        whole = (saved / name).read_bytes() if (saved / name).exists() else None
        torch.save({"micro_batch": Planted(proof)}, saved / name)
        if name == "pytorch_model.bin":  # what accelerate takes where there is no model.safetensors
            (saved / "model.safetensors").unlink()
        with pytest.raises(CheckpointError):
            part.checkpoints.load(saved)
        if whole is not None:
            (saved / name).write_bytes(whole)
    assert not proof.exists()
    torch.load(saved / "pytorch_model.bin", weights_only=False)
    assert proof.exists()  # the trap works


def test_new_notes_leave_a_checkpoint_whole(part, saved):
    part.checkpoints.replace_notes(saved, {"untrained": {"knn_accuracy": 0.5}})
    assert part.checkpoints.load(saved)[2] == {"untrained": {"knn_accuracy": 0.5}} == part.checkpoints.notes(saved)


def test_what_does_not_fit_is_not_called_damaged(part, saved, tmp_path):
    other = Part(tmp_path / "other")
    other.model = other.accelerator._models[0] = nn.Linear(40, 41)
    with pytest.raises(CheckpointError, match="complete, but does not fit") as error:
        other.checkpoints.load(saved)
    assert "remove" not in str(error.value)


@pytest.mark.parametrize("limit", [0, 300, 8000])  # bytes: nothing fits; the position alone; the weights too
def test_a_disk_that_takes_no_more_is_one_sentence_and_leaves_the_checkpoint_before(limit, part, saved):
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, former[1]))
    try:
        with pytest.raises(OutputError, match="step_000000009 cannot be written .*: free some space"):
            part.checkpoints.save(9, POSITION, NOTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert part.checkpoints.newest() == saved and part.checkpoints.load(saved)[0] == 7


def test_what_a_killed_save_left_is_removed(part, saved):
    (saved.parent / ".unfinished_step_000000008").mkdir()
    (saved.parent / ".unfinished_measured.json_0a").write_text("{")
    newest = part.checkpoints.save(8, POSITION, NOTES)
    assert sorted(saved.parent.iterdir()) == [saved, newest]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("basic_ios::clear: iostream error"), RuntimeError("[enforce fail at inline_container.cc:672] .")],
)
def test_errors_of_libraries_in_writing_are_one_sentence(error, part, monkeypatch):
    def fails(folder):
        raise error

    monkeypatch.setattr(part.accelerator, "save_state", fails)
    with pytest.raises(OutputError, match=r"cannot be written .* GB are free.*the same command then starts over"):
        part.checkpoints.save(9, POSITION, NOTES)
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="No space left on device"):
        part.checkpoints.save(9, POSITION, NOTES)
    assert not list(part.checkpoints.folder.iterdir())


def test_a_folder_that_was_removed_meanwhile_is_not_made_again(tmp_path):
    part = Part(tmp_path / "run" / "checkpoints")
    with pytest.raises(OutputError, match="its folder is not there, or was removed or moved"):
        part.checkpoints.save(9, POSITION, NOTES)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_without_its_state_is_not_passed_over(part, saved):
    newest = part.checkpoints.save(9, POSITION, NOTES)
    (newest / "run.json").unlink()
    assert part.checkpoints.newest() == newest
    with pytest.raises(CheckpointError, match="step_000000009 cannot be resumed from .*remove this folder"):
        part.checkpoints.load(newest)


def test_no_message_advises_to_unpickle(tmp_path):
    torch.save(Planted(tmp_path / "executed"), tmp_path / "file")
    with pytest.raises(Exception, match="weights_only") as error:
        torch.load(tmp_path / "file", weights_only=True)
    for said in (reason(error.value), str(_unreadable(tmp_path, error.value))):
        assert "weights_only" not in said and "pickled Python code" in said
