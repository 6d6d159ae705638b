"""The output folder of a run: created, locked and checked before any time is spent on the data."""

import contextlib
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object

from ..atomic import make_folder, remove_unfinished, try_file
from ..errors import CheckpointError, OutputError, RecipeError
from ..lock import hold
from ..recipe import Recipe, load_recipe
from ..recipe.fingerprint import LENGTH, same_but_length
from ..recipe.published import own_recipe
from ..recipe.same_places import with_paths_of
from ..renamed import without_warnings

# What says that an encoder has been published in a folder, or was about to be.
RESULTS = ("result.json", "model.safetensors")

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


def missing_folders(output: Path) -> list[Path]:
    """A folder and those above it that do not exist yet, the innermost first."""
    output = Path(os.path.abspath(output))
    return list(itertools.takewhile(lambda one: not os.path.lexists(one), (output, *output.parents)))


def remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders, the innermost first, as long as there is nothing in them."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def occupy(output: Path, accelerator: Accelerator) -> None:
    """Keeps other runs out of the output folder, and removes what a killed one was just writing there.

    The first process does it for all of the run; ``hfcontrast.lock.release``, or the end of the process, undoes it.

    Raises:
        OutputError: Another run is at work there; on all processes.
    """
    problem = None
    if accelerator.is_main_process:
        try:
            hold(output, "train.output")
            remove_unfinished(output)
        except OutputError as error:
            problem = str(error)
    if first := next((text for text in gather_object([problem]) if text), None):
        raise OutputError(first)


def check_same_run(recipe: Recipe, output: Path) -> Recipe | None:
    """Refuses to continue, or to write over, a run of another recipe; another length of the training is allowed.

    Returns:
        The recipe that the run in the folder was started with last; None where there is none.

    Raises:
        CheckpointError: The folder holds one.
    """
    former = own_recipe(output)
    checkpoints = any((output / "checkpoints").glob("step_*"))
    result = next(
        (name for name in RESULTS if (output / name).exists()), None
    )  # outlives checkpoints that were removed
    if not former.exists() and result and not checkpoints:
        raise CheckpointError(
            f"{output} holds a {result} and no recipe.yaml, so it is not the folder of a run and would be written over: choose another "
            "train.output"
        )
    if not former.exists() or not (checkpoints or result):
        return None
    if recipe.train.resume == "never":
        raise CheckpointError(
            f"{output} holds a run already and train.resume is never: choose another train.output, or remove the folder"
        )
    with without_warnings():
        old = load_recipe(former, former=True)
    renamed = with_paths_of(old, recipe)
    if recipe.fingerprint().hash in (old.fingerprint().hash, renamed.fingerprint().hash, _result_hash(output)):
        return old
    if checkpoints and (same_but_length(old, recipe) or same_but_length(renamed, recipe)):
        return old
    changes = old.difference(recipe)
    if checkpoints:  # with which another length is none of the reasons
        changes = [line for line in changes if not line.startswith(tuple(f"train.{name}:" for name in LENGTH))]
    raise CheckpointError(
        f"{output} holds a run of another recipe ({'; '.join(changes[:5])}): choose another train.output, or remove the folder"
    )


def keep_former_size(recipe: Recipe, output: Path) -> str | None:
    """Lets a run that was begun before its recipe had ``data.cache_size`` go on with images as they are; returns a line that says so."""
    former = own_recipe(output)
    if recipe.data.cache_size != "auto" or not former.exists():
        return None
    with without_warnings():
        old = load_recipe(former, former=True)
    if old.data.cache_size is not None:
        return None
    recipe.data.cache_size = None
    return f"images: decoded at their own size (data.cache_size: null), as when the run in {output} was begun"


def _result_hash(output: Path) -> str | None:
    """The hash of the recipe of a finished run: of one whose checkpoints were removed, the recipe that is left has no paths."""
    try:
        result = json.loads((output / RESULTS[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result.get("recipe_hash") if isinstance(result, dict) else None
