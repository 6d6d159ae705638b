"""Runs the command lines that the documentation shows for other projects' scripts."""

import os
import shlex
import subprocess
import sys
from pathlib import Path


def run_script(block: str, folder: Path, *more: str) -> str:
    """Runs a line ``python SCRIPT ARGUMENTS`` with the script from a folder, and further arguments, which go before the line's.

    Returns:
        What it printed.
    """
    program, script, *arguments = shlex.split(block.replace("\\\n", " "))
    assert program == "python"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(folder / script), *arguments, *more], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr
