"""What Ctrl-C and SIGTERM do while a command is still being imported: one line and an exit code, instead of a traceback.

Imported before everything else of the package, and so it imports next to nothing itself.
"""

import os
import signal
import sys
from types import FrameType

_COMMANDS = ("hfcontrast", "hfcontrast.run")
_USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


def is_command() -> bool:
    """Whether this process was started as a command of hfcontrast; not a program that imports it, nor a worker of a command."""
    name, started = (getattr(sys, "argv", None) or [""])[0], sys.orig_argv
    if name == "-m":  # a package is imported before it is known which of its modules is run
        return "-m" in started and started[started.index("-m") + 1 :][:1] in [[command] for command in _COMMANDS]
    return os.path.basename(name).removesuffix(".exe") == _COMMANDS[0] and name in started


def explain_signals() -> None:
    """Ends the process with one line when a signal comes, until :func:`leave_signals`; leaves what others have set."""
    for number, usual in _USUAL.items():
        if signal.getsignal(number) == usual:
            try:
                signal.signal(number, _end)
            except ValueError:  # only the main thread can
                return


def leave_signals() -> None:
    """Hands the signals back: from now on the command handles them."""
    for number, usual in _USUAL.items():
        if signal.getsignal(number) is _end:
            signal.signal(number, usual)


def _end(number: int, _frame: FrameType | None) -> None:
    if os.environ.get("RANK", "0") == "0":
        os.write(2, b"interrupted\n" if number == signal.SIGINT else b"stopped\n")
    os._exit(128 + number)  # nothing has been opened yet, and an exception would be one of an import


if is_command():
    explain_signals()
