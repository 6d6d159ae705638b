"""Fingerprints and checksums name their algorithm; those of earlier versions are not compared, and cause no error."""

from dataclasses import replace

import pytest

from hfcontrast.checksums import checksum, checksum_of_file, finished, is_older, new_fingerprint
from hfcontrast.data import load_rows
from hfcontrast.data.fingerprint import fingerprint_of_rows
from hfcontrast.errors import CheckpointError
from hfcontrast.training.checkpoint_files import check_files, read_state, sealed, write_state
from hfcontrast.training.notices import incomparable_rows
from hfcontrast.training.same_data import check_same_data

OLDER = "0123456789abcdef" * 2  # XXH3 of 128 bits


def test_they_say_what_they_are(tmp_path):
    found = new_fingerprint()
    found.update(b"a")
    assert finished(found) == "blake2b:27c35e6e9373877f29e562464e46497e"
    (tmp_path / "a").write_bytes(b"ab" * 2_000_000)
    assert checksum_of_file(tmp_path / "a") == checksum(b"ab" * 2_000_000)
    assert checksum(b"123456789") == "crc32:cbf43926"  # the check value of CRC-32
    assert [is_older(text) for text in (OLDER, finished(found), checksum(b""), None)] == [True, False, False, False]


def test_damage_is_found_and_a_checkpoint_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "weights").write_bytes(b"weights")
    write_state(tmp_path, {"step": 1, "num_processes": 1, "notes": {}})
    state = read_state(tmp_path)
    assert check_files(tmp_path, state)
    (tmp_path / "weights").write_bytes(b"weighty")
    with pytest.raises(ValueError, match="weights is damaged"):
        check_files(tmp_path, state)
    text = sealed(state).replace(state["files"]["weights"], OLDER)
    with pytest.raises(ValueError, match="run.json is damaged"):
        (tmp_path / "run.json").write_text(text)
        read_state(tmp_path)
    own = text[text.index("crc32:") :][:14]
    (tmp_path / "run.json").write_text(text.replace(own, OLDER))
    assert not check_files(tmp_path, read_state(tmp_path))  # nothing to compare with
    (tmp_path / "weights").unlink()
    with pytest.raises(FileNotFoundError, match="weights is missing"):
        check_files(tmp_path, read_state(tmp_path))


class Checkpoints:
    """Those of a run that was begun on some rows."""

    def __init__(self, data):
        self.data = data

    def newest(self):
        return "step_000000001"

    def notes(self, _):
        return {"data": self.data}


def test_a_run_of_an_earlier_version_is_resumed_on_as_many_rows(tmp_path):
    rows = load_rows("builtin/digits", split="test[:5]")
    now = {"rows": 5, "fingerprint": rows.fingerprint()}
    assert check_same_data(rows, Checkpoints(now)) == now == check_same_data(rows, Checkpoints(None))
    assert check_same_data(rows, Checkpoints(now | {"fingerprint": OLDER})) == now
    assert incomparable_rows(rows, now["fingerprint"]) == []
    assert incomparable_rows(rows, OLDER) == []  # built in, and so the same
    assert incomparable_rows(replace(rows, description="folder (split train)"), OLDER) == [
        "this checkpoint was written by an earlier version of hfcontrast, whose fingerprint of rows and labels cannot be compared: "
        "make sure that the rows of folder (split train) are the same, in the same order, and have the same labels; where a folder is "
        "read otherwise now, data.data_files lists its files as they were"
    ]
    for data in ({"rows": 6, "fingerprint": OLDER}, {"rows": 5, "fingerprint": "blake2b:0"}):
        with pytest.raises(CheckpointError, match="the data has changed"):
            check_same_data(rows, Checkpoints(data))


def test_labels_of_folders_that_an_earlier_version_did_not_find_do_not_change_the_data():
    rows = load_rows("builtin/digits", split="test[:5]")
    before = {"rows": 5, "fingerprint": fingerprint_of_rows(rows.dataset.remove_columns("label"))}
    now = {"rows": 5, "fingerprint": rows.fingerprint()}
    assert check_same_data(rows, Checkpoints(before), labels_matter=False) == now
    with pytest.raises(CheckpointError, match="the data has changed"):
        check_same_data(rows, Checkpoints(before))
