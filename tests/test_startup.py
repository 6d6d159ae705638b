"""Signals that come while a command is imported."""

import os
import signal
import sys

import pytest

from hfcontrast import startup


@pytest.mark.parametrize(
    "argv, started, expected",
    [
        (["/bin/hfcontrast", "train"], ["python", "/bin/hfcontrast", "train"], True),
        (["-m"], ["python", "-W", "error", "-m", "hfcontrast", "train"], True),
        (["-m"], ["python", "-m", "hfcontrast.run", "a.yaml"], True),
        (["-m"], ["python", "-m", "pytest", "hfcontrast"], False),
        (["mine.py"], ["python", "mine.py"], False),
        (["/bin/hfcontrast"], ["python", "-c", "from multiprocessing.spawn import spawn_main"], False),  # a worker
        ([""], ["python"], False),
    ],
)
def test_only_commands_handle_them(monkeypatch, argv, started, expected):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", started)
    assert startup.is_command() is expected


@pytest.mark.parametrize("number, line", [(signal.SIGINT, b"interrupted\n"), (signal.SIGTERM, b"stopped\n")])
def test_they_end_the_process_with_one_line_until_the_command_handles_them(monkeypatch, number, line):
    found = []
    monkeypatch.setattr(os, "write", lambda _, text: found.append(text))
    monkeypatch.setattr(os, "_exit", found.append)
    former = {one: signal.signal(one, usual) for one, usual in startup._USUAL.items()}
    try:
        startup.explain_signals()
        os.kill(os.getpid(), number)
        startup.leave_signals()
        assert found == [line, 128 + number]
        assert all(signal.getsignal(one) == usual for one, usual in startup._USUAL.items())
        signal.signal(number, signal.SIG_IGN)  # as nohup and shells set it for what runs in the background
        startup.explain_signals()
        assert signal.getsignal(number) is signal.SIG_IGN
        startup.leave_signals()
    finally:
        for one, handler in former.items():
            signal.signal(one, handler)
