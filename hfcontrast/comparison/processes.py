"""The runs of a comparison as separate processes: each has its own memory, and a failure of one does not stop the others."""

import codecs
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..renamed import said_to_children
from ..signals import SIGNALS

_ERROR = re.compile(r"^(?:\[rank\d+\]:\s*)?(?:error: (.+)|((?:\w+\.)*\w*(?:Error|Exception)\b.*))$")


class Processes:
    """Starts runs, and hands the signals that stop runs on to those in progress, which then save.

    A context manager, which restores the former signal handlers; made in the main thread, its ``run`` may be called in others.
    ``stopped_by`` is the signal that came, or 0.

    Args:
        jobs: How many run at once. What one prints is shown, what several print goes to their files alone; several share the CPU's
            threads.
    """

    def __init__(self, jobs: int = 1):
        self.jobs = jobs

    def __enter__(self) -> "Processes":
        self.stopped_by = 0
        self._children: set[subprocess.Popen] = set()
        self._former = {number: signal.signal(number, self._hand_on) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _hand_on(self, number, _frame) -> None:
        # In a terminal Ctrl-C has reached the run already; it takes two in one second for one.
        self.stopped_by = number
        for child in tuple(self._children):
            if child.poll() is None:
                child.send_signal(number)

    def run(self, command: Sequence[str], log: Path) -> tuple[int, str]:
        """Runs a command to its end, adding what it prints to a file.

        Returns:
            Its exit code (negative: the signal that killed it), and what it printed on stdout and stderr.
        """
        environment = {
            "COLUMNS": str(shutil.get_terminal_size((120, 24)).columns),
            "TQDM_MININTERVAL": "2",  # the bar goes to the file too
            **({"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // self.jobs))} if self.jobs > 1 else {}),
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            **said_to_children(),
        }
        decoder, text = codecs.getincrementaldecoder("utf-8")("replace"), []
        with log.open("a", encoding="utf-8") as file:
            child = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, env=environment
            )
            self._children.add(child)
            if self.stopped_by:  # the signal came just before the process was started
                child.send_signal(self.stopped_by)
            with child.stdout as stream:
                while chunk := stream.read(1 << 16):
                    text.append(decoder.decode(chunk))
                    for target in (file, sys.stderr) if self.jobs == 1 else (file,):
                        target.write(text[-1])
                        target.flush()
            code = child.wait()
        self._children.discard(child)
        return code, "".join(text)


def training_command(arguments: Sequence[str], device: str) -> list[str]:
    """The command that trains: through ``accelerate launch`` where a machine has several GPUs to train on.

    Args:
        arguments: The recipe and its overrides.
        device: ``train.device`` of the recipe.
    """
    several = device in ("auto", "cuda") and torch.cuda.device_count() > 1
    launcher = ["-m", "accelerate.commands.launch"] if several else []
    return [sys.executable, *launcher, "-m", "hfcontrast.run", *arguments]


def first_error(code: int, text: str) -> str:
    """What went wrong, in one line: the first error that a failed run printed, else how it ended."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()]
    if found := next((match for line in lines if (match := _ERROR.match(line))), None):
        return found[1] or found[2]
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return lines[-1] if lines else f"ended with exit code {code}"
