"""An error stays readable below what a launcher prints."""

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

import hfcontrast.run
from hfcontrast.training.launchers import explain


def test_torchrun_shows_the_sentence_last(tmp_path, capsys, monkeypatch):
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    assert hfcontrast.run.main([str(tmp_path / "nothing.yaml")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and "no such recipe" in said[0]
    report = ChildFailedError("hfcontrast.run", {0: ProcessFailure(0, 1, 2, str(file))}).format_msg()
    assert said[0] in report.splitlines()[-2], report


def test_accelerates_traceback_is_announced_and_how_to_leave_it_out(capsys):
    explain("error: no such recipe", {"ACCELERATE_MIXED_PRECISION": "no"})
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: no such recipe" and "accelerate launch --quiet" in second
    explain("error: no such recipe", {})
    assert capsys.readouterr().err == "error: no such recipe\n"
    explain("error: no such recipe", {"TORCHELASTIC_ERROR_FILE": "/nowhere/error.json"})  # gone: nothing to tell
    assert capsys.readouterr().err == "error: no such recipe\n"


def test_of_several_processes_the_first_prints_an_error(tmp_path, capsys):
    for rank in ("0", "1"):
        explain("error: no data", {"TORCHELASTIC_ERROR_FILE": str(tmp_path / rank), "RANK": rank})
        assert "no data" in (tmp_path / rank).read_text()
    assert capsys.readouterr().err == "error: no data\n"
    explain("error: no data", {"TORCHELASTIC_ERROR_FILE": "/nowhere/error.json", "RANK": "1"})  # which nobody would see
    explain("stopped after step 3", {"TORCHELASTIC_ERROR_FILE": str(tmp_path / "1"), "RANK": "1"})
    assert capsys.readouterr().err == "error: no data\nstopped after step 3\n"
