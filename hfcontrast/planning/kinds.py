"""Kinds of images, and the augmentation that fits them: what changes an image without making it another one."""

from dataclasses import dataclass
from typing import Any

AUTO = "auto"
PHOTOGRAPHS, GRAY, COLORS = "photographs", "gray", "colors"
LATER = frozenset({"rotate"})  # what runs of earlier versions have not, which are resumed all the same
# What is never made stronger than a recipe has it: a method that learns without it was published so.
STRENGTHS = frozenset({"brightness", "contrast", "saturation", "hue", "grayscale"})
_NO_COLOR = {"saturation": 0.0, "hue": 0.0, "grayscale": 0.0, "solarize": 0.0}


@dataclass(frozen=True)
class Kind:
    """One kind.

    Attributes:
        meant: What is meant by it.
        views: Changes to all views of a recipe for photographs.
        said: What these are, in words.
    """

    meant: str
    views: dict[str, Any]
    said: str


KINDS: dict[str, Kind] = {
    PHOTOGRAPHS: Kind("photographs of things, people, scenes", {}, "crops, flips, color"),
    COLORS: Kind(
        "what is told apart by its color: fruit, flowers, birds, fabrics",
        {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.0, "grayscale": 0.0},
        "crops, flips, brightness and contrast; hardly any color",
    ),
    GRAY: Kind(
        "gray images: medicine, microscopy, scans",
        {**_NO_COLOR, "brightness": 0.4, "contrast": 0.4},
        "crops, flips, brightness and contrast; no color",
    ),
    "textures": Kind(
        "what has no up and down: textures, aerial and satellite images, microscopy in color",
        {"horizontal_flip": 0.5, "vertical_flip": 0.5, "rotate": 0.75},  # all eight orientations, each as often
        "crops, flips in both directions, rotations by right angles, color",
    ),
    "documents": Kind(
        "pages, forms, drawings: what cannot be mirrored, and is read as a whole",
        {
            **_NO_COLOR,
            "scale": [0.4, 1.0],
            "horizontal_flip": 0.0,
            "vertical_flip": 0.0,
            "brightness": 0.3,
            "contrast": 0.3,
            "grayscale": 0.2,
        },
        "large crops, brightness and contrast; no flips, no hue",
    ),
}
