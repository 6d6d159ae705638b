"""One process at a time in an output folder."""

import os
import signal
import time
from multiprocessing import get_context

import pytest

from hfcontrast.errors import OutputError
from hfcontrast.lock import FILE, held, hold, release


def _stay(folder, pipe, workers=0):
    """Holds a folder until it is killed, with a process that it has forked and that outlives it."""
    hold(folder, "train.output")
    if workers and os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    pipe.send(os.getpid())
    time.sleep(20)


def _other(folder, workers=0):
    here, there = get_context("fork").Pipe()
    process = get_context("fork").Process(target=_stay, args=(folder, there, workers), daemon=True)
    process.start()
    assert here.poll(10)
    here.recv()
    return process


def test_another_process_is_refused_with_who_holds_the_folder_and_let_in_once_that_is_killed(tmp_path):
    other = _other(tmp_path, workers=1)
    with pytest.raises(OutputError) as error:
        hold(tmp_path, "train.output")
    assert f"{tmp_path} is in use by another run (process {other.pid} on " in str(error.value)
    assert "choose another train.output" in str(error.value)
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with held(tmp_path, "train.output"):  # though what the killed one has forked is still alive
        assert (tmp_path / FILE).read_text().startswith(f"process {os.getpid()} on ")
    assert list(tmp_path.iterdir()) == []


def test_a_process_does_not_keep_itself_out(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "folder")
    (tmp_path / "folder").mkdir()
    hold(link, "train.output")
    hold(tmp_path / "folder", "train.output")
    release(link)
    other = _other(tmp_path / "folder")
    with pytest.raises(OutputError), held(link, "--output"):
        pass
    other.kill()


def test_what_the_parent_holds_its_forked_child_does_not(tmp_path):
    with held(tmp_path, "train.output"):
        if (child := os.fork()) == 0:
            try:
                hold(tmp_path, "train.output")
            except OutputError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
