"""Tells launchers why a run ended early, so that their own reports do not hide it."""

import os
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress

from ..atomic import write_json

_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # gloo's words
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # of this process, which torchrun reads at its end


def explain(text: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Prints why a run ends on stderr, and sees to it that it is found below what the launcher prints after it.

    Of several processes of ``torchrun``, which end in the same error, the first one prints it.
    ``torchrun`` (and ``accelerate launch`` on several GPUs, which calls it) shows the sentence as the last thing it prints.
    ``accelerate launch`` with one process prints a traceback of its own after any exit code but 0; how to leave it out is said.

    Args:
        text: The sentence.
        environment: Environment variables.
    """
    file, told = environment.get(_ERROR_FILE), False
    if file:
        message = {"message": text, "extraInfo": {"py_callstack": text, "timestamp": str(int(time.time()))}}
        with suppress(OSError):
            write_json(file, {"message": message})
            told = True
    if not (told and environment.get("RANK", "0") != "0" and text.startswith("error: ")):
        print(text, file=sys.stderr, flush=True)
    if not file and "ACCELERATE_MIXED_PRECISION" in environment:
        print(
            "(a traceback of accelerate's own may follow: it says nothing more, and `accelerate launch --quiet` leaves it out)",
            file=sys.stderr,
            flush=True,
        )


def another_has_ended(error: BaseException, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether an error says no more than that another of the launcher's processes has ended, which says itself why.

    Args:
        error: The error.
        environment: Environment variables.
    """
    return environment.get("WORLD_SIZE", "1") != "1" and any(words in str(error) for words in _LOST)
