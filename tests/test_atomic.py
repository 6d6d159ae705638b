"""Atomic writes: after any interruption there is either the old file or the new one."""

import ast
import json
import os
import signal
import stat
from pathlib import Path

import pytest

import hfcontrast
from hfcontrast import atomic
from hfcontrast.errors import OutputError

PACKAGE = Path(hfcontrast.__file__).parent


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_files_and_folders_obey_the_umask_whoever_makes_them(umask, tmp_path):
    former = os.umask(umask)
    try:
        with atomic.atomic_file(tmp_path / "a.bin") as unfinished:
            unfinished.unlink()  # as a library does that renames a file of its own, such as one of tempfile's
            os.close(os.open(unfinished, os.O_CREAT | os.O_WRONLY, 0o600))
        with atomic.atomic_folder(tmp_path / "made" / "b") as unfinished:
            (unfinished / "deeper").mkdir()
            os.close(os.open(unfinished / "deeper" / "c.bin", os.O_CREAT | os.O_WRONLY, 0o600))
        source = tmp_path / "source"
        source.mkdir()
        os.close(os.open(source / "d.bin", os.O_CREAT | os.O_WRONLY, 0o600))
        atomic.move_files(source, tmp_path / "target")
    finally:
        os.umask(former)
    files = [tmp_path / "a.bin", tmp_path / "made" / "b" / "deeper" / "c.bin", tmp_path / "target" / "d.bin"]
    assert [_mode(file) for file in files] == [0o666 & ~umask] * 3
    assert _mode(tmp_path / "made" / "b") == 0o777 & ~umask and not source.exists()


def test_what_fails_in_the_middle_leaves_what_was_there(tmp_path):
    file, folder = tmp_path / "file.json", tmp_path / "folder"
    atomic.write_json(file, {"value": 1})
    with atomic.atomic_folder(folder) as unfinished:
        (unfinished / "old").touch()
    with pytest.raises(KeyboardInterrupt), atomic.atomic_file(file) as unfinished:
        unfinished.write_text('{"val')
        raise KeyboardInterrupt
    with pytest.raises(OSError), atomic.atomic_folder(folder) as unfinished:
        (unfinished / "new").touch()
        raise OSError
    assert json.loads(file.read_text()) == {"value": 1}
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.json", "folder"]
    with atomic.atomic_folder(folder) as unfinished:
        (unfinished / "new").touch()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.json", "folder"]


def test_files_of_a_folder_are_replaced_together_and_the_others_stay(tmp_path):
    folder = tmp_path / "run"
    with atomic.atomic_files(folder) as unfinished:
        (unfinished / "config.json").write_text("first")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RuntimeError), atomic.atomic_files(folder, beside=True) as unfinished:
        assert unfinished.parent == tmp_path and unfinished.name.startswith(atomic.UNFINISHED)
        (unfinished / "config.json").write_text("half")
        raise RuntimeError
    assert (folder / "config.json").read_text() == "first"
    with atomic.atomic_files(folder) as unfinished:
        (unfinished / "config.json").write_text("second")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"config.json": "second", "notes.txt": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_process_killed_while_it_writes_leaves_the_former_file(tmp_path):
    file = tmp_path / "recipe.yaml"
    atomic.write_text(file, "former\n")
    if (child := os.fork()) == 0:
        with atomic.atomic_file(file) as unfinished:
            unfinished.write_text("half of the n")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert file.read_text() == "former\n" and len(list(tmp_path.iterdir())) == 2
    atomic.remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_links_are_followed_and_devices_written_to(tmp_path):
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("former")
    link.symlink_to(target)
    atomic.write_text(link, "line\r\n")
    assert link.is_symlink() and target.read_bytes() == b"line\r\n"
    atomic.write_text("/dev/null", "nothing")
    assert Path("/dev/null").is_char_device()


def test_nothing_else_in_the_package_writes_in_place():
    """Output goes through ``atomic``; ``testing`` writes to temporary folders, the rest is listed with its reason."""
    allowed = {
        ("training/checkpoint_files.py", "write_text"),  # inside an unfinished folder
        ("publishing/export.py", "write_text"),  # the same
        ("data/sources/unpacking.py", "open"),  # inside an unfinished folder of the cache
        (
            "data/sources/unpacking.py",
            "replace",
        ),  # which os.sync flushes as a whole: fsync takes too long for many files
        ("lock.py", "write_text"),  # the process that holds it; no other writes there
        ("training/memory.py", "write_text"),  # /proc
        ("training/tracking.py", "open"),  # appends a line
        ("training/kept_features.py", "open"),  # makes the file, whose blocks count once they are marked as done
        ("comparison/processes.py", "open"),  # appends what a run prints
    }
    found = set()
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if name == "atomic.py" or name.startswith("testing/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = getattr(getattr(node.func, "value", None), "id", "")
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            writes = called == "open" and any(set(mode) <= set("wax+bt") and set(mode) & set("wax") for mode in modes)
            renames = owner == "os" and called in ("replace", "rename")
            if called in ("write_text", "write_bytes") and isinstance(node.func, ast.Attribute) or writes or renames:
                found.add((name, called))
    assert found <= allowed, found - allowed


def test_what_cannot_be_written_is_one_sentence_and_other_errors_are_left_alone(tmp_path):
    full = r"^the table cannot be written \(No space left on device\): free some space"
    with pytest.raises(OutputError, match=full), atomic.writing("the table"):
        atomic.write_text("/dev/full", "text")
    with pytest.raises(OutputError, match="Not a directory"), atomic.writing("the table"):
        (tmp_path / "file").touch()
        atomic.write_text(tmp_path / "file" / "below", "text")
    for other in (ValueError("wrong"), OSError("could not get source code"), RuntimeError("size mismatch")):
        with pytest.raises(type(other), match=str(other)), atomic.writing("the table"):
            raise other


def test_json_has_no_numbers_that_are_none(tmp_path):
    atomic.write_json(
        tmp_path / "a.json",
        {"a": [1.5, float("nan")], "b": {"c": (float("inf"), "NaN", None, True)}, "d": -float("inf")},
    )

    def refuse(text):
        raise AssertionError(text)

    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert found == {"a": [1.5, None], "b": {"c": [None, "NaN", None, True]}, "d": None}
