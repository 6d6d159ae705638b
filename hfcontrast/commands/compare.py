"""`hfcontrast compare`: several recipes trained alike, into one table."""

import argparse

from ..paths import local_path
from .arguments import count, output

_STOPPED = "stopped; the same command resumes"
SUMMARY = "train several recipes alike, into one table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    parser.add_argument("items", metavar="RECIPE", nargs="+", help="the YAML files, one for each method")
    parser.add_argument(
        "overrides", metavar="key.path=value", nargs="*", default=[], help="settings that go before every file's"
    )
    parser.add_argument(
        "--output", metavar="FOLDER", type=output, default="outputs/compare", help="where to (default: outputs/compare)"
    )
    parser.add_argument(
        "--common",
        metavar="FILE",
        type=local_path,
        help="settings that all recipes share (default: the common.yaml beside each)",
    )
    parser.add_argument(
        "--jobs", metavar="N", type=count, default=1, help="runs trained at once, on a GPU that one leaves idle"
    )
    parser.add_argument(
        "--grid",
        action="store_true",
        help="train every pair of recipes too, with the settings of both, and draw heat maps",
    )
    parser.add_argument("--seeds", metavar="N", nargs="+", default=[], help="train each with these; mean ± deviation")


def run(args: argparse.Namespace) -> int:
    """Runs it."""
    from ..signals import stopping_at_once

    with stopping_at_once(_STOPPED):  # around what comes before and after the trainings, which are asked to save
        return _compare(args)


def _compare(args: argparse.Namespace) -> int:
    from ..signals import stopping_at_once

    with stopping_at_once(_STOPPED):  # raised again behind a library that has kept it while it was imported
        from ..comparison.compare import compare
        from ..comparison.plan import split_arguments

    seeds = [int(item) for item in args.seeds if item.isdecimal()]
    behind_seeds = [item for item in args.seeds if not item.isdecimal()]
    recipes, overrides = split_arguments([*args.items, *behind_seeds, *args.overrides])
    return compare(recipes, overrides, args.output, seeds, args.common, args.jobs, args.grid)
