"""`hfcontrast train`: trains by a recipe or on a folder of images, as `python -m hfcontrast.run` does."""

import argparse

from ..planning.arguments import add_image_arguments
from .arguments import add_recipe_arguments

SUMMARY = "train by a recipe, or with --images on a folder of images, as python -m hfcontrast.run does"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    add_recipe_arguments(parser, optional=True)
    add_image_arguments(parser)


def run(args: argparse.Namespace) -> int | None:
    """Runs it."""
    from ..run import main

    time = None if args.time is None else f"{args.time}m"
    options = {
        "--common": args.common,
        "--images": args.images,
        "--from": args.weights,
        "--time": time,
        "--kind": args.kind,
    }
    given = [word for name, value in options.items() if value is not None for word in (name, value)]
    return main([*given, *([args.recipe] if args.recipe is not None else []), *args.overrides])
