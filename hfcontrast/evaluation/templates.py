"""Prompts for zero-shot classification: texts with {} for the name of a class.

``SEVEN`` are those that a greedy search on ImageNet found to do as well as the 80 of Radford et al. (2021); the CLIP
authors published both with their code. ``GENERAL`` is our own selection for data of any kind: how good an image is, how
it was made, how large its object is.
"""

from collections.abc import Sequence
from pathlib import Path

from ..errors import HFContrastError
from ..paths import local_path

PLAIN = ("{}",)
PHOTO = ("a photo of a {}.",)
SEVEN = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
GENERAL = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a picture of a {}.",
    "an image of many {}.",
    "a close-up of a {}.",
    "a cropped photo of a {}.",
    "a blurry photo of a {}.",
    "a low resolution image of a {}.",
    "a black and white photo of a {}.",
    "a bright photo of a {}.",
    "a dark photo of a {}.",
    "a photo of one {} among other things.",
    "a small {} in the distance.",
    "a large {} that fills the picture.",
    "a drawing of a {}.",
    "a painting of a {}.",
    "a computer graphic of a {}.",
    "a {} on a plain background.",
)
ENSEMBLES: dict[str, tuple[str, ...]] = {"plain": PLAIN, "photo": PHOTO, "seven": SEVEN, "general": GENERAL}


def fill(template: str, name: str) -> str:
    """A template with the name of a class in it; braces in the name are just characters."""
    return template.replace("{}", name)


def check_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """The templates.

    Raises:
        HFContrastError: There is none, or one has no place for the name of a class.
    """
    if wrong := [template for template in templates if "{}" not in template]:
        raise HFContrastError(
            f"template {wrong[0]!r} has no {{}} where the name of a class goes; an example is {PHOTO[0]!r}"
        )
    if not templates:
        raise HFContrastError(f"there is no template; an example is {PHOTO[0]!r}")
    return tuple(templates)


def find_templates(name: str) -> tuple[str, ...]:
    """An ensemble by its name, or the templates of a text file: one a line; empty lines and lines with # in front are left out.

    Raises:
        HFContrastError: There is no such ensemble and no such file, or a line has no place for a name.
    """
    if name in ENSEMBLES:
        return ENSEMBLES[name]
    try:
        lines = Path(local_path(name)).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HFContrastError(
            f"templates {name!r} are neither an ensemble ({', '.join(ENSEMBLES)}) nor a file that can be read ({error})"
        ) from error
    return check_templates([line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")])
