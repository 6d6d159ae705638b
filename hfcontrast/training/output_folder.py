"""The folder of a run: made, and tried, before any time is spent on the data."""

import os
from pathlib import Path

from ..atomic import make_folder, try_file
from ..errors import RecipeError

# What a run leaves there, where something else may stand in the way.
_FOLDERS = ("checkpoints", "method")
_FILES = (
    "recipe.yaml",
    "environment.json",
    "metrics.jsonl",
    "result.json",
    "README.md",
    "config.json",
    "model.safetensors",
)


def make_output_folder(output: Path) -> None:
    """Makes the folder.

    Raises:
        RecipeError: It cannot be made, or what a run leaves cannot be written in it.
    """
    folders = [output, *(output / name for name in _FOLDERS if os.path.lexists(output / name))]
    for attempt, place in (*((make_folder, path) for path in folders), *((try_file, output / name) for name in _FILES)):
        try:
            attempt(place)
        except OSError as error:
            raise RecipeError(
                f"train.output: nothing can be written to {place} ({error.strerror}): choose another folder"
            ) from error
