"""Two processes train what one trains: the same metrics, the same weights, the same accuracy; also with micro-batches."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from test_resume import assert_same_end, parquet_shards, wait_for_step
from tiny_runs import RECIPES, REST, Run, metrics, run

# Masks of drop path are drawn by every process, so that runs are equal only without it.
OVERRIDES = {
    "simclr": (),
    "dino": ("backbone.drop_path_rate=0.0",),
    "clip": ("data.path=builtin/shapes", "data.split=test[:200]"),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Trains a method on so many processes with so many micro-batches, once; returns the run's folder."""
    folder, done = tmp_path_factory.mktemp("runs"), {}

    def train(method, processes=1, accumulation=1):
        key = f"{method}_{processes}_{accumulation}"
        if key not in done:
            recipe = folder / f"{method}.yaml"
            recipe.write_text(RECIPES[method] + REST)
            overrides = (*OVERRIDES[method], f"train.accumulation={accumulation}")
            code, output = run(recipe, folder / key, *overrides, processes=processes)
            assert code == 0, output
            done[key] = folder / key
        return done[key]

    return train


def scores_of_card(folder):
    return [line for line in (folder / "README.md").read_text().splitlines() if line.endswith("% |")]


def assert_close_runs(first, second, but_not=()):
    for expected, actual in zip(metrics(first), metrics(second), strict=True):
        assert expected.keys() == actual.keys()
        for name in but_not:
            expected.pop(name, None), actual.pop(name, None)
        scores, other = expected.pop("eval", {}), actual.pop("eval", {})
        assert actual == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert other == pytest.approx(scores, rel=1e-3)
    assert scores_of_card(first) == scores_of_card(second)
    expected, actual = (load_file(folder / "method" / "model.safetensors") for folder in (first, second))
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        # Attention does not depend on the keys' bias: its gradient is rounding, which Adam blows up.
        if not name.endswith(("key.bias", "k_proj.bias")):
            torch.testing.assert_close(
                actual[name], value, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
            )


@pytest.mark.parametrize("method", ["simclr", "dino", "clip"])
def test_two_processes_are_one(method, trained):
    """SimCLR: LARS, batch statistics over both processes, negatives from both; DINO: teacher, center, multi-crop; CLIP: captions,
    a tokenizer that one of them trains, zero-shot and retrieval."""
    assert_close_runs(trained(method), trained(method, processes=2))


def test_micro_batches_of_dino_are_the_whole_batch(trained):
    """Its loss is a mean over samples and its center is that of the step: accumulation changes nothing."""
    looked_at = ("embedding_std", "embedding_rank")  # of the last micro-batch only
    assert_close_runs(trained("dino"), trained("dino", accumulation=2), but_not=looked_at)


def test_micro_batches_of_simclr_have_negatives_of_their_own(trained):
    """Half the batch has half the negatives and other batch statistics: another loss, but the same on 1 and 2 processes."""
    assert_close_runs(trained("simclr", accumulation=2), trained("simclr", processes=2, accumulation=2))
    whole, parts = (metrics(trained("simclr", accumulation=n))[0]["loss"] for n in (1, 2))
    assert parts < whole - 0.3


def test_statistics_of_each_process_and_shuffled_keys(recipe_file, tmp_path):
    """MoCo as its paper has it: two processes with statistics of their own are one process with two groups: the queue, and the
    running statistics that are published."""
    recipe, calm = recipe_file("moco"), ("train.sync_batchnorm=false", "eval.every=", "eval.baselines=false")
    for name, processes in (("one", 1), ("two", 2)):
        code, output = run(recipe, tmp_path / name, *calm, processes=processes)
        assert code == 0, output
    for expected, actual in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        if "loss" in expected:
            assert actual["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    one, two = (load_file(tmp_path / name / "method" / "model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two["queue.rows"], one["queue.rows"], rtol=1e-3, atol=1e-3)
    statistics = [name for name in one if "running_" in name or "num_batches" in name]
    assert any("momentum_encoder" in name for name in statistics)
    for name in statistics:
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-3, msg=name)
    published = load_file(tmp_path / "two" / "model.safetensors")
    assert all(torch.equal(value, two[f"encoder.{name}"]) for name, value in published.items())


def test_a_stream_on_two_processes_stopped_by_one_of_them_resumes_exactly(recipe_file, tmp_path):
    recipe, alone, stopped = recipe_file("simclr"), tmp_path / "alone", tmp_path / "stopped"
    source = ("data.streaming=true", *parquet_shards(tmp_path))
    process = Run(recipe, stopped, *source, processes=2)
    wait_for_step(process, 6)
    os.kill(process.processes[1].pid, signal.SIGTERM)
    code, output = process.wait()
    assert code == 128 + signal.SIGTERM, output
    assert [p.exitcode for p in process.processes] == [code, code]
    again = run(recipe, stopped, *source, processes=2)
    assert again.code == 0, again.output
    assert "resuming from" in again.output
    assert run(recipe, alone, *source, processes=2).code == 0
    assert_same_end(alone, stopped)


def test_a_batch_that_cannot_be_shared_out(recipe_file, tmp_path):
    code, output = run(recipe_file("simclr"), tmp_path / "run", "train.batch_size=31", processes=2)
    assert code == 2
    assert "train.batch_size is 31" in output and "2 processes" in output and "use 30" in output
