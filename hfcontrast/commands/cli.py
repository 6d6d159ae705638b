"""The command line: `hfcontrast COMMAND`. What a command needs is imported only when that command runs."""

import argparse
import difflib
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import hfcontrast

from ..errors import HFContrastError, memory_sentence, out_of_memory
from ..renamed import warnings_as_lines
from ..signals import Interrupted, ending_at_once
from ..training.launchers import another_has_ended, explain
from .arguments import as_options, naming_options

# In the order of `hfcontrast --help`. Each is a module of this package with SUMMARY (one line), add_arguments(parser) and
# run(args) -> exit status (None: 0), which imports what it needs itself: here only its declaration is imported.
COMMANDS = ("train", "evaluate", "embed", "export", "push", "compare", "bench", "methods", "recipes", "schema")


def command(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f".{name}", __package__)


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Returns the parser of the command line.

    Args:
        chosen: The command whose arguments are declared; None: all commands', which may look at everything that is installed.
    """
    parser = argparse.ArgumentParser("hfcontrast", description="Self-supervised learning of image encoders.")
    parser.add_argument("--version", action="version", version=f"hfcontrast {hfcontrast.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = command(name)
        subparser = subparsers.add_parser(name, help=module.SUMMARY, description=module.SUMMARY)
        subparser.set_defaults(fail=subparser.error)
        if chosen in (None, name):
            module.add_arguments(subparser)
    return parser


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses a command line; overrides may stand before and after options."""
    argv = sys.argv[1:] if argv is None else argv
    chosen = next((item for item in argv if not item.startswith("-")), "")
    parser = build_parser(chosen)
    if chosen and chosen not in COMMANDS:
        near = difflib.get_close_matches(chosen, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        parser.error(f"there is no command {chosen!r}; {hint}")
    args, rest = parser.parse_known_args(argv)
    if hasattr(args, "overrides"):  # argparse gives up on the second group of them
        args.overrides += [item for item in rest if not item.startswith("-")]
        rest = [item for item in rest if item.startswith("-")]
    if rest:
        meant = [_as_override(item) for item in rest if "." in item] if hasattr(args, "overrides") else []
        hint = f"; write {' '.join(meant)}" if meant else ""
        args.fail(f"unknown arguments: {' '.join(rest)}{hint}")
    return args


def _as_override(option: str) -> str:
    """``--train.epochs=3``, or ``--train.epochs``, as the recipe's setting that was meant."""
    setting = option.lstrip("-")
    return setting if "=" in setting else f"{setting}=VALUE"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 2 for an error that has been explained on stderr."""
    if not (sys.argv[1:] if argv is None else argv):
        build_parser("").print_help()
        return 0
    with ending_at_once():
        args = parse(argv)
    try:
        with warnings_as_lines(), naming_options(hasattr(args, "image_column")):
            return command(args.command).run(args) or 0
    except HFContrastError as error:
        explain(f"error: {as_options(str(error)) if hasattr(args, 'image_column') else error}")
        return 2
    except (MemoryError, RuntimeError) as error:
        if another_has_ended(error):
            return 2
        if not out_of_memory(error):
            raise
        explain(f"error: {memory_sentence(error, 'lower --batch-size, or the sizes that are asked for')}")
        return 2
    except Interrupted as stop:
        print("interrupted" if stop.signal_number == signal.SIGINT else stop, file=sys.stderr)
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
