"""The options of a run on a folder of images, as `hfcontrast train` and `hfcontrast.run` have them."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import HFContrastError
from ..paths import local_path
from .kinds import AUTO, KINDS

_PART = re.compile(r"(\d+(?:\.\d+)?) *(days?|d|hours?|h|minutes?|min|m|seconds?|sec|s)? *", re.I)
_MINUTES = {"d": 1440.0, "h": 60.0, "m": 1.0, "s": 1 / 60}
_LONGEST = 60 * 24 * 100.0


class Given(NamedTuple):
    """What a command line says: a recipe, if it names one, and overrides."""

    recipe: str | None
    overrides: list[str]


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares --images, --from, --time and --kind."""
    group = parser.add_argument_group("a folder of images, without a recipe")
    group.add_argument(
        "--images",
        metavar="FOLDER",
        type=local_path,
        help="train on these images: a folder, with class folders or without, or an archive of one; the recipe is chosen, and said",
    )
    group.add_argument(
        "--from",
        dest="weights",
        metavar="WEIGHTS",
        type=local_path,
        help="train these released weights further, by the recipe photos/continue: a name on the Hub such as facebook/dinov2-small, or a folder",
    )
    group.add_argument(
        "--time", metavar="TIME", type=minutes, help="how long to train: 30m, 2h, 1h30m (default: 30m, with --images)"
    )
    group.add_argument(
        "--kind",
        choices=(AUTO, *KINDS),
        help="what the images are, which decides on the augmentation (default: auto: photographs, or gray where all are)",
    )


def minutes(text: str) -> float:
    """A time such as 30m, 2h or 1h30m in minutes, for argparse; a bare number is one of minutes."""
    parts, rest, total = _PART.findall(text.strip()), _PART.sub("", text.strip()), 0.0
    if parts and not rest and (len(parts) == 1 or all(unit for _, unit in parts)):
        total = sum(float(number) * _MINUTES[(unit or "m")[0].lower()] for number, unit in parts)
    if not 0 < total <= _LONGEST:
        raise argparse.ArgumentTypeError(f"expected a time such as 30m, 2h or 1h30m, up to 100 days, got {text!r}")
    return total


def given_of(recipe: str | None, overrides: Sequence[str], images: str | None) -> Given:
    """Tells a recipe from overrides, which argparse takes for one where none is named.

    Args:
        recipe: What stands first.
        overrides: What stands behind it.
        images: The value of ``--images``.

    Raises:
        HFContrastError: There is neither a recipe nor a folder of images.
    """
    items = [*([recipe] if recipe is not None else []), *overrides]
    first = items[0] if items else None
    if first is not None and re.match(r"[\w.]+=", first) and not Path(first).is_file():
        first = None
    if first is None and images is None:
        raise HFContrastError(
            "name a RECIPE to train by (`hfcontrast recipes` lists those that are shipped), or --images FOLDER: then one is chosen"
        )
    return Given(first, items[1:] if first is not None else items)
