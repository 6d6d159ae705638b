"""``accelerate launch -m hfcontrast.run RECIPE [key.path=value ...]``: trains, evaluates and publishes an encoder.

With ``--images FOLDER`` no recipe is needed: one is chosen for the images. A recipe is checked before torch is imported: a mistake in it is reported within a second or two.
"""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from .errors import HFContrastError, RecipeError, memory_sentence, out_of_memory
from .paths import local_path
from .planning.arguments import add_image_arguments, given_of
from .progress import LongTask
from .recipe import Recipe, load_recipe
from .renamed import warnings_as_lines
from .signals import AT_ANY_TIME, Interrupted, received, stopping_at_once
from .training.launchers import explain

_LESS_MEMORY = (
    "lower train.batch_size or the sizes in method, backbone and views; train.accumulation, train.grad_cache, "
    "train.gradient_checkpointing and train.precision=bf16 save memory too, data.cache=false that of the images"
)


def run(recipe: Recipe) -> dict[str, Any]:
    """Runs a recipe to the end; returns the run's notes (accuracies, speed).

    Raises:
        HFContrastError: With one clear sentence.
        Interrupted: A signal came; the run is saved.
    """
    with LongTask("importing torch and transformers"):
        from .run_training import run_training

    return run_training(recipe)


def follow_launcher() -> None:
    """Makes the end of ``accelerate launch`` or ``torchrun`` a SIGTERM here, where the system can: a killed one forwards nothing."""
    launched = {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & os.environ.keys()
    if launched and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, 2 for an error that was explained, 128 + the signal that stopped the run."""
    parser = argparse.ArgumentParser(prog="hfcontrast.run", description=__doc__)
    add_run_arguments(parser)
    options = parser.parse_args(arguments)
    follow_launcher()
    with stopping_at_once(AT_ANY_TIME):
        return run_command(options)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of a run."""
    parser.add_argument(
        "recipe",
        type=local_path,
        nargs="?",
        help="YAML file, such as recipes/dino_vit.yaml, or the name of a shipped recipe, such as photos/simclr",
    )
    parser.add_argument(
        "overrides", nargs="*", default=[], help="key.path=value, such as optim.lr=0.001 or data.path=imagefolder"
    )
    parser.add_argument(
        "--common",
        metavar="FILE",
        type=local_path,
        help="settings that the recipe shares with others; its own go before them",
    )
    add_image_arguments(parser)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe that a command line names, or that is chosen for its images.

    Raises:
        HFContrastError: There is neither, or the images cannot be trained on.
    """
    recipe, overrides = given_of(options.recipe, options.overrides, options.images)
    if options.images is not None:
        from .planning.plan import plan_run

        return plan_run(options.images, recipe, overrides, options.time, options.kind, options.common, options.weights)
    if options.kind is not None:
        raise RecipeError("--kind chooses the views for --images FOLDER: name the folder, or set views in the recipe")
    timed = [] if options.time is None else [f"train.minutes={options.time:g}"]
    if options.weights is not None:
        from .planning.released import refuse_twice, weights_override

        refuse_twice({override.partition("=")[0].strip() for override in overrides}, options.weights)
        timed.append(weights_override(recipe, options.weights))
    return load_recipe(recipe, [*timed, *overrides], common=options.common)  # before the libraries are imported


def run_command(options: argparse.Namespace) -> int:
    """Runs a recipe and explains how it ended; returns the exit code of :func:`main`."""
    with warnings_as_lines():
        return _run_command(options)


def _run_command(options: argparse.Namespace) -> int:
    try:
        run(recipe_of(options))
    except Interrupted as stop:
        explain(str(stop))
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        print("stopped at once; the same command resumes from the newest checkpoint, if there is one", file=sys.stderr)
        return 128 + signal.SIGINT
    except HFContrastError as error:
        if (number := received()) is not None:  # code of a library has made an error of the interruption
            explain(AT_ANY_TIME)
            return 128 + number
        explain(f"error: {error}")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        explain(f"error: {memory_sentence(error, _LESS_MEMORY)}")
        return 2
    finally:
        torch = sys.modules.get("torch")
        if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
