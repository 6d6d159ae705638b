"""A run that is killed, or asked to stop, and started again ends exactly as one that was left alone."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import Run, metrics, run

from hfcontrast.atomic import write_text
from hfcontrast.errors import CheckpointError, OutputError, RecipeError
from hfcontrast.lock import hold
from hfcontrast.recipe import load_recipe
from hfcontrast.recipe.published import OWN_FILE
from hfcontrast.training.build import build_training
from hfcontrast.training.build_method import check_backbone_builds
from hfcontrast.training.checkpoint_files import read_state, sealed
from hfcontrast.training.loop import start
from hfcontrast.training.output_folder import check_same_run


def _state(output: Path) -> dict:
    newest = max((output / "checkpoints").glob("step_*"))
    optimizer = torch.load(newest / "optimizer.bin", weights_only=False)
    return {"name": newest.name, "model": load_file(newest / "model.safetensors"), "optimizer": optimizer}


def assert_same_end(first: Path, second: Path) -> None:
    """Weights, teacher, center, optimizer, exported encoder and metrics are bit by bit the same."""
    a, b = _state(first), _state(second)
    assert a["name"] == b["name"]
    assert a["model"].keys() == b["model"].keys()
    for name, value in a["model"].items():
        assert torch.equal(value, b["model"][name]), name
    for number, state in a["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(b["optimizer"]["state"][number][name])), name
    assert metrics(first) == metrics(second)
    left, right = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert all(torch.equal(value, right[name]) for name, value in left.items())


def wait_for_step(run: Run, step: int) -> None:
    end = time.monotonic() + 120
    while max((line["step"] for line in metrics(run.folder)), default=0) < step:
        assert run.processes[0].is_alive(), run.log.read_text()
        assert time.monotonic() < end, "the run did not get on"
        time.sleep(0.002)


@pytest.mark.parametrize("method", ["dino", "simclr"])
@pytest.mark.parametrize("streaming", ["false", "true"])
def test_killed_and_started_again_ends_bit_identical(method, streaming, recipe_file, tmp_path):
    """SIGKILL after step 7 or so: the checkpoint is that of step 5, the steps after it are computed again."""
    recipe, alone, killed = recipe_file(method), tmp_path / "alone", tmp_path / "killed"
    source = [f"data.streaming={streaming}"]
    if streaming == "true":
        source += parquet_shards(tmp_path)
    assert (left_alone := run(recipe, alone, *source)).code == 0, left_alone.output
    process = Run(recipe, killed, *source)
    wait_for_step(process, 7)
    process.signal(signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    again = run(recipe, killed, *source)
    assert again.code == 0, again.output
    assert "resuming from" in again.output
    assert_same_end(alone, killed)


def parquet_shards(folder: Path) -> list[str]:
    """The digits as four parquet files, and the overrides that stream them."""
    from hfcontrast.data.sources import load_rows

    target = folder / "shards"
    if not target.exists():
        target.mkdir()
        dataset = load_rows("builtin/digits", split="train[:200]").dataset
        for number in range(4):
            dataset.shard(4, number).to_parquet(target / f"train-{number}.parquet")
    return [
        "data.path=parquet",
        f"data.data_files={target}/*.parquet",
        "data.split=train",
        "data.shuffle_block=16",
        "data.epoch_rows=192",
        "eval.path=builtin/digits",
        "eval.split=test",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_says_so(number, recipe_file, tmp_path):
    recipe, alone, stopped = recipe_file("dino"), tmp_path / "alone", tmp_path / "stopped"
    process = Run(recipe, stopped)
    wait_for_step(process, 6)
    process.signal(number)
    code, output = process.wait()
    assert code == 128 + number, output
    assert "saved in" in output and "the same command resumes" in output
    assert "Traceback" not in output
    assert run(recipe, stopped).code == 0
    assert run(recipe, alone).code == 0
    assert_same_end(alone, stopped)


def test_a_finished_run_started_again_changes_nothing(recipe_file, tmp_path):
    recipe, output = recipe_file("simclr"), tmp_path / "run"
    assert run(recipe, output).code == 0
    before, state = metrics(output), _state(output)
    again = run(recipe, output)
    assert again.code == 0, again.output
    assert metrics(output) == before
    assert all(torch.equal(value, state["model"][name]) for name, value in _state(output)["model"].items())


def test_another_recipe_in_the_same_folder_is_refused(recipe_file, tmp_path):
    recipe, output = recipe_file("simclr"), tmp_path / "run"
    assert run(recipe, output).code == 0
    code, message = run(recipe, output, "optim.lr=0.5")
    assert code == 2
    assert "optim.lr: 1.0 -> 0.5" in message and "Traceback" not in message


def test_a_stream_resumed_on_another_number_of_processes_is_refused_in_one_sentence(recipe_file, tmp_path):
    source = parquet_shards(tmp_path)
    recipe = load_recipe(recipe_file("simclr"), [*source, "data.streaming=true", f"train.output={tmp_path / 'run'}"])
    training = build_training(recipe)
    saved = training.checkpoints.save(0, training.loader.state_dict(), {})
    write_text(saved / "run.json", sealed(read_state(saved) | {"num_processes": 2}))
    with pytest.raises(CheckpointError, match="step_000000000 was written by 2, now there are 1; start as many"):
        start(training)


def test_a_finished_run_whose_checkpoints_were_removed_is_not_written_over(recipe_file, tmp_path):
    output = tmp_path / "run"
    first = load_recipe(recipe_file("simclr"), [f"train.output={output}"])
    output.mkdir()
    first.save(output / "recipe.yaml")
    check_same_run(load_recipe(recipe_file("simclr"), ["optim.lr=0.5"]), output)  # nothing has come of it yet
    for result in ("result.json", "model.safetensors"):
        (output / result).write_text("{}")
        with pytest.raises(CheckpointError, match="optim.lr: 1.0 -> 0.5.*choose another train.output"):
            check_same_run(load_recipe(recipe_file("simclr"), ["optim.lr=0.5"]), output)
        with pytest.raises(CheckpointError, match="train.resume is never"):
            check_same_run(load_recipe(recipe_file("simclr"), ["train.resume=never"]), output)
        check_same_run(first, output)
        (output / "recipe.yaml").rename(output / "aside")
        with pytest.raises(CheckpointError, match=f"{result} and no recipe.yaml"):
            check_same_run(first, output)
        (output / "aside").rename(output / "recipe.yaml")
        (output / result).unlink()


def test_two_starts_in_one_folder_do_not_meet(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file("simclr"), [f"train.output={tmp_path / 'run'}"])
    with multiprocessing.get_context("fork").Pool(1) as other:
        other.apply(os.makedirs, (tmp_path / "run",))
        other.apply(hold, (tmp_path / "run", "train.output"))
        (tmp_path / "run" / ".unfinished_export").touch()  # of the other, which is just writing
        with pytest.raises(OutputError, match="is in use by another run .process .* choose another train.output"):
            build_training(recipe)
    assert (tmp_path / "run" / ".unfinished_export").exists()
    build_training(recipe)
    assert not (tmp_path / "run" / ".unfinished_export").exists()


def test_data_that_changed_since_a_checkpoint_is_refused_with_both_counts(recipe_file, tmp_path):
    """Also a memory bank of so many rows is not first found not to fit; a checkpoint without the note is resumed."""

    def build(split: str):
        overrides = [f"data.split={split}", f"train.output={tmp_path / 'run'}", "eval.path=builtin/digits"]
        return build_training(load_recipe(recipe_file("simclr"), overrides))

    first = build("train[:200]")
    saved = first.checkpoints.save(0, first.loader.state_dict(), {"data": first.data})
    _, notes = start(build("train[:200]"))
    assert notes["data"] == first.data and first.data["rows"] == 200
    for split, count in (("train[:180]", 180), ("train[1:201]", 200)):
        first.recipe.model_copy(update={"data": first.recipe.data.model_copy(update={"split": split})}).save(
            tmp_path / "run" / OWN_FILE  # as if the split had always been called so
        )
        with pytest.raises(
            CheckpointError, match=rf"data has changed .*step_000000000.*: 200 rows .* then, {count} rows .* now"
        ):
            build(split)
    write_text(
        saved / "run.json",
        sealed({name: value if name != "notes" else {} for name, value in read_state(saved).items()}),
    )
    _, notes = start(build("train[1:201]"))
    assert notes["data"]["rows"] == 200 and notes["data"] != first.data


def test_a_backbone_that_cannot_be_built_is_reported_before_a_different_fingerprint():
    recipe = {"method": {"name": "simclr"}, "data": {"path": "builtin/shapes"}, "train": {"steps": 1}}
    check_backbone_builds(load_recipe(recipe | {"backbone": "timm/resnet18"}))
    with pytest.raises(
        RecipeError,
        match=r"backbone: transformers cannot build this 'vit': hidden_act is 'foo', an activation that transformers does not know",
    ):
        check_backbone_builds(load_recipe(recipe | {"backbone": {"model_type": "vit", "hidden_act": "foo"}}))
