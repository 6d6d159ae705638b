"""`hfcontrast train`: trains by a recipe, as `python -m hfcontrast.run` does."""

import argparse

from .arguments import add_recipe_arguments

SUMMARY = "train by a recipe, as python -m hfcontrast.run does"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    add_recipe_arguments(parser)


def run(args: argparse.Namespace) -> int | None:
    """Runs it."""
    from ..run import main

    return main([*(["--common", args.common] if args.common else []), args.recipe, *args.overrides])
