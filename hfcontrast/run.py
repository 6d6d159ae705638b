"""``accelerate launch -m hfcontrast.run RECIPE [key.path=value ...]``: trains, evaluates and publishes an encoder.

The recipe is checked before torch is imported: a mistake in it is reported within a second or two.
"""

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import HFContrastError, memory_sentence, out_of_memory
from .paths import local_path
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
    parser.add_argument("recipe", type=local_path, help="YAML file, such as recipes/dino_vit.yaml")
    parser.add_argument(
        "overrides", nargs="*", default=[], help="key.path=value, such as optim.lr=0.001 or data.path=imagefolder"
    )
    parser.add_argument(
        "--common",
        metavar="FILE",
        type=local_path,
        help="settings that the recipe shares with others; its own go before them",
    )
    options = parser.parse_args(arguments)
    follow_launcher()
    with stopping_at_once(AT_ANY_TIME):
        return run_command(options)


def run_command(options: argparse.Namespace) -> int:
    """Runs a recipe and explains how it ended; returns the exit code of :func:`main`."""
    with warnings_as_lines():
        return _run_command(options)


def _run_command(options: argparse.Namespace) -> int:
    try:
        # before the libraries are imported
        recipe = load_recipe(Path(options.recipe), options.overrides, common=options.common)
        run(recipe)
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
