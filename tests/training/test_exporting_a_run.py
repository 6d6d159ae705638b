"""``hfcontrast export``: the encoder of any checkpoint, as the end of the run would publish it, while the run goes on."""

import json

import pytest
import torch
from safetensors.torch import load_file
from test_every_method import tiny
from test_length import crashed_after
from transformers import AutoImageProcessor, AutoModel

from hfcontrast.commands.cli import main
from hfcontrast.errors import CheckpointError
from hfcontrast.lock import hold, release
from hfcontrast.run_export import export_checkpoint
from hfcontrast.run_training import run_training

ENCODER = ("config.json", "model.safetensors", "preprocessor_config.json")


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_last_checkpoint_is_exported_as_the_run_has_published_it(tmp_path, capsys):
    """Also of a teacher, and of a run that is at work: its lock is not touched, and nothing of it changes."""
    run = tmp_path / "run"
    run_training(tiny("byol", run, keep_checkpoints=9))
    before = {name: (run / name).read_bytes() for name in names(run)}
    hold(run, "train.output")
    try:
        assert main(["export", str(run)]) == 0
    finally:
        release(run)
    folder = run / "exports" / "step_000000007"
    assert f"Written: {folder}" in capsys.readouterr().out
    assert {name: (run / name).read_bytes() for name in before} == before
    assert [path.name for path in (run / "exports").iterdir()] == ["step_000000007"]
    for name in ENCODER[::2]:
        assert (folder / name).read_bytes() == before[name]
    published, exported = load_file(run / ENCODER[1]), load_file(folder / ENCODER[1])
    assert published.keys() == exported.keys() and all(torch.equal(v, exported[k]) for k, v in published.items())
    assert "unfinished" not in (folder / "README.md").read_text()


def test_an_unfinished_run_says_so(tmp_path):
    run = tmp_path / "run"
    crashed_after("dino", run, 7, keep_checkpoints=9)  # with checkpoints of steps 3 and 6
    folder = export_checkpoint(run)
    card = (folder / "README.md").read_text()
    assert folder.name == "step_000000006" and "unfinished run: exported after step 6 of 7" in card
    assert "6 steps with 8 images each" in card and "was not evaluated" in card and "| features" not in card
    assert str(tmp_path) not in card
    earlier = export_checkpoint(run, step=3, to=tmp_path / "earlier")
    assert earlier == tmp_path / "earlier" and "after step 3 of 7" in (earlier / "README.md").read_text()
    assert not torch.equal(*(next(AutoModel.from_pretrained(one).parameters()) for one in (folder, earlier)))
    assert AutoImageProcessor.from_pretrained(earlier).crop_size == {"height": 16, "width": 16}
    run_training(tiny("dino", run, keep_checkpoints=9))  # which is resumed as if nothing had been exported
    assert json.loads((run / "result.json").read_text())["steps"] == 7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip", "instdisc", "colorization"])  # texts, a memory of all images, measured colors
def test_what_is_made_of_the_data_is_the_runs_own(name, tmp_path):
    run = tmp_path / "run"
    run_training(tiny(name, run))
    published = load_file(run / "model.safetensors")
    exported = load_file(export_checkpoint(run) / "model.safetensors")
    assert all(torch.equal(v, exported[k]) for k, v in published.items())
    tokenizer = "tokenizer.json"
    assert (run / tokenizer).exists() == (run / "exports" / "step_000000007" / tokenizer).exists()


def test_folders_without_a_checkpoint_are_named(tmp_path, capsys):
    assert main(["export", str(tmp_path)]) == 2
    assert f"{tmp_path} has no checkpoint" in capsys.readouterr().err
    crashed_after("simclr", tmp_path / "run", 5)
    with pytest.raises(CheckpointError, match="no checkpoint of step 4: there are 3$"):
        export_checkpoint(tmp_path / "run", step=4)
    weights = tmp_path / "run" / "checkpoints" / "step_000000003" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="step_000000003 cannot be resumed from"):
        export_checkpoint(tmp_path / "run")
