"""`hfcontrast export`: the encoder of a run's checkpoint, at any time."""

import argparse
from pathlib import Path

from ..paths import local_path, quoted
from .arguments import count

SUMMARY = "export the encoder of a run's newest checkpoint, also while it goes on"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    parser.add_argument("output", metavar="OUTPUT", type=local_path, help="folder of the run: its train.output")
    parser.add_argument("--step", metavar="N", type=count, help="the checkpoint of this step (default: the newest)")
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        type=local_path,
        help="folder for the export (default: exports/step_N in that of the run)",
    )


def run(args: argparse.Namespace) -> None:
    """Runs it."""
    from ..run_export import export_checkpoint

    folder = export_checkpoint(Path(args.output), args.step, Path(args.to) if args.to else None)
    print(f"Written: {folder}")
    print(f"Evaluate it: hfcontrast evaluate {quoted(folder)} DATA")
