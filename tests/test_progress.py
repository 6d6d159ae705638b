"""Lines on what takes long: silent at first, then what, how far and how long; the innermost task alone, one process alone."""

import threading

import pytest

from hfcontrast import progress
from hfcontrast.progress import LongTask


@pytest.fixture
def lines(monkeypatch):
    """What is printed, and a way to wait for the next line."""
    monkeypatch.setattr(progress, "AFTER", 0.01)
    return Lines()


class Lines(list):
    def __init__(self):
        super().__init__()
        self.more = threading.Condition()

    def __call__(self, line: str) -> None:
        with self.more:
            self.append(line)
            self.more.notify_all()

    def wait_for(self, text: str) -> None:
        with self.more:
            assert self.more.wait_for(lambda: any(text in line for line in self), timeout=10), list(self)


def test_quick_tasks_print_nothing(capsys):
    with LongTask("reading"):
        pass
    assert capsys.readouterr() == ("", "")


def test_long_tasks_print_their_count_and_their_end(lines):
    with LongTask("reading photos", 1200, write=lines) as task:
        task.update(1000)
        lines.wait_for("reading photos: 1,000 of 1,200 (0 s so far)")
    assert lines[-1] == "reading photos: finished after 0 s"


def test_only_the_innermost_task_is_printed(lines):
    outer = Lines()
    with LongTask("opening", write=outer):
        with LongTask("listing", write=lines) as task:
            task.update(7)
            lines.wait_for("listing: 7 (")
        before = list(lines)
        outer.wait_for("opening ... (")
    assert lines == before and not any("listing" in line for line in outer)


def test_an_error_ends_the_lines(lines):
    with pytest.raises(ValueError), LongTask("reading", write=lines):
        lines.wait_for("reading ...")
        raise ValueError
    assert not any("finished" in line for line in lines) and not progress._open


def test_other_processes_say_nothing(lines, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    before = threading.active_count()
    with LongTask("reading", write=lines):
        assert threading.active_count() == before
