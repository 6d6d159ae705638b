"""`hfcontrast bench`: where a recipe's time is spent, or time and memory of the losses."""

import argparse

from ..errors import HFContrastError
from .arguments import add_recipe_arguments, count, seconds

SUMMARY = "measure where a recipe's time goes, or the losses"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares its arguments."""
    add_recipe_arguments(parser, optional=True)
    parser.add_argument("--seconds", type=seconds, default=60.0, help="how long the rounds continue (default: 60)")
    parser.add_argument(
        "--against",
        action="append",
        metavar="KEY=VALUE",
        help="measure the recipe with this override too, in the same rounds (can be repeated)",
    )
    parser.add_argument(
        "--losses", action="store_true", help="measure the losses instead of a recipe: time and memory of two forms"
    )
    parser.add_argument("--batch", type=count, help="with --losses: images (default: 2048 on a CPU, 8192 on a GPU)")
    parser.add_argument("--dim", type=count, default=128, help="with --losses: width of the embeddings (default: 128)")


def run(args: argparse.Namespace) -> None:
    """Runs it."""
    # Where options come first, argparse takes the recipe for an override.
    given = [*([args.recipe] if args.recipe else []), *args.overrides]
    if args.losses:
        if given or args.against:
            raise HFContrastError(
                "bench --losses measures no recipe: leave out the recipe, its overrides and --against"
            )
        from ..benchmarks.losses import bench_losses

        bench_losses(args.batch, args.dim, args.seconds)
        return
    if not given:
        raise HFContrastError("bench needs a RECIPE to measure; --losses measures the losses without one")
    from ..benchmarks.step import bench
    from ..recipe import load_recipe

    recipe, *overrides = given
    bench(load_recipe(recipe, overrides, common=args.common), args.seconds, args.against)
