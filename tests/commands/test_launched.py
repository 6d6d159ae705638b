"""Commands on several processes: one result, that of one process."""

import json
from functools import partial

import pytest
import torch.distributed as dist

from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.embed_data import embed
from hfcontrast.commands.evaluate_model import evaluate_model
from hfcontrast.commands.launched import in_turn, joined_processes, of_first
from hfcontrast.errors import HFContrastError
from hfcontrast.lock import held
from hfcontrast.testing.process_group import run_together
from hfcontrast.training.launchers import another_has_ended

pytest_plugins = ["tests.evaluation.conftest"]

EMBEDDING = {"batch_size": 3, "shard_rows": 16, "keep": ["number", "image"], "device": "cpu"}
TASKS = ["knn", "zero-shot", "retrieval", "linear"]


def problem(function) -> str | None:
    try:
        function()
    except HFContrastError as error:
        return str(error)
    return None


def share(model, source, output, number, processes):
    """What a process does: embeds, also a stream and beside another command, evaluates, and joins lists."""
    told = embed(model, source, output / "map", **EMBEDDING)
    stream = DataSource(source.path, streaming=True)
    found = {"parts": len(told["parts"]), "stream": embed(model, stream, output / "stream", **EMBEDDING)["rows"]}
    found["again"] = embed(model, source, output / "map", **EMBEDDING) == told
    found["other"] = problem(partial(embed, model, source, output / "map", **{**EMBEDDING, "normalize": True}))
    found["in use"] = problem(partial(embed, model, source, output / "held", **EMBEDDING))
    found["turn"] = in_turn([number + 2 * i for i in range(3 - number)])
    found["first"] = of_first(lambda: number)
    found["report"] = json.dumps(
        evaluate_model(model, source, tasks=TASKS, split="test", train_split="train", device="cpu")
    )
    return found


def test_two_processes_share_the_rows_and_leave_what_one_does(clip_folder, colors_folder, tmp_path):
    source, alone = DataSource(colors_folder), tmp_path / "alone"
    (tmp_path / "held").mkdir()
    with held(tmp_path / "held", "--output"):
        first, second = run_together(share, (clip_folder, source, tmp_path), 2)
    embed(clip_folder, source, alone, **EMBEDDING)
    embed(clip_folder, DataSource(colors_folder, streaming=True), tmp_path / "alone_stream", **EMBEDDING)
    for one, two in ((alone, tmp_path / "map"), (tmp_path / "alone_stream", tmp_path / "stream")):
        names = sorted(file.name for file in one.iterdir())
        assert len(names) == 4 and names == sorted(
            file.name for file in two.iterdir()
        )  # neither locks nor unfinished files
        assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    for found in (first, second):
        assert (found["parts"], found["stream"], found["again"], found["first"]) == (3, 40, True, 0)
        assert "was begun with other options: normalize was False, is True" in found["other"]
        assert "is in use by another run" in found["in use"]
        assert found["report"] == first["report"]
    assert first["turn"] == [0, 1, 2, 3, 4] and second["turn"] == []
    report = evaluate_model(clip_folder, source, tasks=TASKS, split="test", train_split="train", device="cpu")
    together = json.loads(first["report"])
    for task, figures in report.pop("scores").items():
        assert together["scores"][task] == pytest.approx(json.loads(json.dumps(figures)), rel=1e-4)  # up to rounding
    assert {**together, "scores": None} == {**json.loads(json.dumps(report)), "scores": None}


def test_without_a_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_processes("cuda"):
        assert not dist.is_initialized()


def test_processes_do_not_share_a_gpu(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("hfcontrast.commands.launched.follow_launcher", lambda: None)
    sentence = r"2 processes would share GPUs \(there are 1\): start one for each"
    with pytest.raises(HFContrastError, match=sentence), joined_processes("cuda"):
        pass


def test_a_lost_connection_is_another_process_that_has_ended():
    lost = RuntimeError("[../gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:40210")
    assert another_has_ended(lost, {"WORLD_SIZE": "2"})
    assert not another_has_ended(lost, {}) and not another_has_ended(RuntimeError("shapes"), {"WORLD_SIZE": "2"})
