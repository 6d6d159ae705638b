"""Signals that come while a command is imported."""

import os
import signal

import pytest

from hfcontrast.signals import ending_at_once

USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@pytest.mark.parametrize("number, line", [(signal.SIGINT, b"interrupted\n"), (signal.SIGTERM, b"stopped\n")])
def test_they_end_the_process_with_one_line_until_the_command_handles_them(monkeypatch, number, line):
    found = []
    monkeypatch.setattr(os, "write", lambda _, text: found.append(text))
    monkeypatch.setattr(os, "_exit", found.append)
    former = {one: signal.signal(one, usual) for one, usual in USUAL.items()}
    try:
        with ending_at_once():
            os.kill(os.getpid(), number)
        assert found == [line, 128 + number]
        assert all(signal.getsignal(one) == usual for one, usual in USUAL.items())
        signal.signal(number, signal.SIG_IGN)  # as nohup and shells set it for what runs in the background
        with ending_at_once():
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        for one, handler in former.items():
            signal.signal(one, handler)
