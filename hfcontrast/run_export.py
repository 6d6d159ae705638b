"""Export of a checkpoint: the encoder as the end of its run would publish it, also while the run goes on."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import datasets
import transformers

from .atomic import write_text, writing
from .encoders.two_towers import is_two_towers
from .errors import CheckpointError
from .lock import release
from .methods.contract.arguments import reads_labels
from .methods.registry import get_method
from .progress import LongTask
from .publishing.card import build_card
from .publishing.export import save_published
from .publishing.processor import build_processor, published_ratio, with_tokenizer
from .publishing.told import UNFINISHED
from .recipe import Recipe, load_recipe
from .recipe.published import OWN_FILE, own_recipe
from .renamed import without_warnings
from .run_evaluation import OpenedRows
from .training.build import Training, build_training
from .training.build_method import published_size
from .training.engines import own_states

FOLDER = "exports"  # of a run, where no other is named
_STEP = re.compile(r"step_(\d+)")
_ATTEMPTS = 3  # a run that goes on removes its older checkpoints


def export_checkpoint(output: Path, step: int | None = None, to: Path | None = None) -> Path:
    """Exports the encoder of a run's checkpoint: its files, a card and the whole method. The run is left alone.

    Args:
        output: The run's folder.
        step: Optimizer steps of the checkpoint; None: the newest.
        to: Folder for the export; None: ``exports/step_N`` in that of the run.

    Returns:
        Where it is.

    Raises:
        CheckpointError: There is no such checkpoint, or it cannot be read.
        RecipeError, DataError: The method cannot be built any more.
        OutputError: The export cannot be written.
    """
    datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    for attempt in range(_ATTEMPTS):
        done, checkpoint = chosen_checkpoint(output, step)
        folder = to or output / FOLDER / f"step_{done:09d}"
        try:
            with writing(str(folder)), _copied(output, checkpoint, folder) as copied, own_states():
                return _export(load_own_recipe(output), copied, output, done, folder)
        except FileNotFoundError:
            if step is not None or attempt + 1 == _ATTEMPTS:
                raise CheckpointError(f"{checkpoint} was removed while it was read: name another step") from None
    raise AssertionError("unreachable")


def chosen_checkpoint(output: Path, step: int | None) -> tuple[int, Path]:
    """The steps and the folder of a checkpoint.

    Args:
        output: The run's folder.
        step: Its steps; None: the newest.

    Raises:
        CheckpointError: There is none.
    """
    folders = sorted((output / "checkpoints").glob("step_*"))
    found = {int(match[1]): path for path in folders if (match := _STEP.fullmatch(path.name))}
    if not found:
        raise CheckpointError(f"{output} has no checkpoint: name the folder of a run that has saved one (train.output)")
    if step is not None and step not in found:
        raise CheckpointError(f"{output} has no checkpoint of step {step}: there are {', '.join(map(str, found))}")
    done = max(found) if step is None else step
    return done, found[done]


def load_own_recipe(output: Path) -> Recipe:
    """The recipe that a run was started with last.

    Raises:
        CheckpointError: There is none.
    """
    file = own_recipe(output)
    if not file.exists():
        raise CheckpointError(f"{output} has no {file.name}, by which its encoder could be built")
    with without_warnings():
        return load_recipe(file, former=True)


@contextlib.contextmanager
def _copied(output: Path, checkpoint: Path, folder: Path) -> Iterator[Path]:
    """A run's folder with this checkpoint alone, of hard links where there can be: nothing that the run does touches it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export_", dir=folder.parent) as name:
        for source in (output / "checkpoints").iterdir():
            others = source.name.startswith((".", "step_")) or source.name == Path(OWN_FILE).name
            if source == checkpoint or not others:
                target = Path(name, "checkpoints", source.name)
                target.parent.mkdir(exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target, copy_function=_link)
                else:
                    _link(source, target)
        yield Path(name)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _export(recipe: Recipe, copied: Path, output: Path, step: int, folder: Path) -> Path:
    recipe.train.output, recipe.track.to = str(copied), []
    recipe.train.device, recipe.train.precision, recipe.train.compile = "cpu", "fp32", False
    recipe.data.cache, recipe.data.workers = False, 0
    try:
        labels = reads_labels(get_method(recipe.method.name))  # then a fifth may be held out of the training
        training = build_training(recipe, OpenedRows(recipe) if labels else None)
        total = training.total_steps
        _, _, notes = training.checkpoints.load(training.checkpoints.newest())
    finally:
        release(copied)
    training.output, training.recipe = output, load_own_recipe(output)
    training.length = replace(training.length, steps=step, stopped=None)
    notes |= {"evaluation": {}, UNFINISHED: None if step >= total else total}
    with LongTask("exporting the encoder"):
        _write(training, notes, folder)
    return folder


def _write(training: Training, notes: dict, folder: Path) -> None:
    encoder, size = training.method.export_encoder(), published_size(training.recipe, training.views)
    ratio = published_ratio(training.recipe.publish, size)
    processor = build_processor(encoder, size, ratio, training.mean, training.std)
    if training.captions is not None and is_two_towers(encoder):
        processor = with_tokenizer(encoder, processor, training.captions.tokenizer)
    save_published(training, processor, ratio, folder, training.method.state_dict())
    write_text(folder / "README.md", str(build_card(training, notes, ratio, "")))
