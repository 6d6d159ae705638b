"""The choice of a recipe of recipes/photos for images, machine and time, and of what follows from how many images there are.

What was measured is in the tables at the top: to change what is chosen, change these.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..recipe import Recipe
from .images import ImageFacts
from .kinds import AUTO, COLORS, GRAY, KINDS, PHOTOGRAPHS, STRENGTHS
from .machine import Machine

METHOD = "simclr"  # of recipes/photos; what measures best on photographs in half an hour
SIZES = {"cpu": "", "gpu": "_gpu", "gpus": "_multi_gpu"}  # what the names of its recipes end in
SIZES_IN_WORDS = {"cpu": "a CPU", "gpu": "one GPU", "gpus": "several GPUs"}
SMALL = 40  # pixels of the shorter side, up to which images are small: views of 64 px would be four times the work and show no more
SMALL_SIZES = {"cpu": "_small", "gpu": "_small_gpu", "gpus": "_small_gpu"}  # for these
# Images that a second of training takes, roughly, until the first steps are measured: of a CPU core, or a GPU.
IMAGES_PER_SECOND = {"cpu": 200.0, "gpu": 3000.0, "gpus": 1500.0}
VIEW_SIZES = (64, 128)  # sides of views that are tried before the recipe's, for images that are not small
ENLARGED = 1.5  # times that the shorter side of the images may be of a view's
SMALL_IMAGES_PER_SECOND = {"cpu": 800.0, "gpu": 12000.0, "gpus": 10000.0}
MINUTES = 30.0  # without --time
FULL_MEMORY = 16 * 2**30  # bytes of a GPU that the recipes' batches fit in
STEPS_IN_AN_EPOCH = 4  # at least: a batch is that much smaller than the data
SMALLEST_BATCH = 16
MOST_EPOCHS = 2000  # more passes over the same images teach nothing more
CHECKPOINT_STEPS = 200  # between two checkpoints at least, where a length is named: an epoch may be a few steps
FEW_EPOCHS = 20  # below which more time is advised


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        settings: Settings that differ from the recipe, by key.
        kind: The kind of images.
        epochs: About how many passes over the images are made.
        minutes: How long is trained.
        capped: Whether less time is taken than there is, as more would not help.
    """

    settings: dict[str, object]
    kind: str
    epochs: float
    minutes: float
    capped: bool = False


def recipe_for(machine: Machine, facts: ImageFacts | None = None) -> str:
    """The name of the recipe for a machine.

    Args:
        machine: The machine.
        facts: The images, which may be small; None as long as they have not been looked at.
    """
    sizes = SMALL_SIZES if facts is not None and small(facts) else SIZES
    return f"photos/{METHOD}{sizes[size_of(machine)]}"


def small(facts: ImageFacts) -> bool:
    """Whether images are so small that views of 32 px show all of them."""
    return min(facts.width, facts.height) <= SMALL


def size_of(machine: Machine) -> str:
    """Which of the sizes of :data:`SIZES` a machine is for."""
    if machine.device != "cuda":
        return "cpu"
    return "gpus" if machine.processes > 1 else "gpu"


def choose(
    facts: ImageFacts,
    machine: Machine,
    recipe: Recipe,
    minutes: float | None = None,
    kind: str | None = None,
    length: Mapping[str, float] | None = None,
    picked: bool = False,
) -> Choice:
    """Settings for images, machine and time.

    Args:
        facts: The images.
        machine: The machine.
        recipe: The recipe whose settings are changed.
        minutes: What ``--time`` says.
        kind: What ``--kind`` says.
        length: ``epochs`` or ``steps``, where the command line fixes one of them: no time is chosen then.
        picked: Whether the recipe was chosen too, and not named: then its views are no larger than the images need.
    """
    kind = kind_of(facts) if kind in (None, AUTO) else kind
    settings: dict[str, object] = {}
    for name, view in recipe.views.items():
        fitting_views = {
            key: min(value, view[key]) if key in STRENGTHS and key in view else value
            for key, value in KINDS[kind].views.items()
        }
        changed = {key: value for key, value in fitting_views.items() if key in view and view[key] != value}
        settings |= {f"views.{name}.{key}": value for key, value in changed.items()}
    if picked:
        fitting = view_size(facts)
        settings |= {
            f"views.{name}.size": fitting for name, view in recipe.views.items() if fitting and view["size"] > fitting
        }
    if facts.channels is not None:
        settings["data.channels"] = facts.channels
    if facts.window is not None:
        settings["data.window"] = list(facts.window)
    batch = batch_size(facts.count, machine, recipe.train.batch_size)
    if batch != recipe.train.batch_size:
        settings["train.batch_size"] = batch
        if recipe.optim.scale_lr == "none":  # adamw: by the square root (Malladi et al., 2022)
            settings["optim.lr"] = float(f"{recipe.optim.lr * math.sqrt(batch / recipe.train.batch_size):.2g}")
    speeds = (
        SMALL_IMAGES_PER_SECOND if max(view["size"] for view in recipe.views.values()) <= SMALL else IMAGES_PER_SECOND
    )
    speed = speeds[size_of(machine)] * (machine.cores if machine.device == "cpu" else 1) * machine.processes
    given, in_epoch = MINUTES if minutes is None else minutes, max(facts.count // batch, 1)
    possible = given * 60 * speed / facts.count
    epochs = min(possible, MOST_EPOCHS)
    taken = given * min(MOST_EPOCHS / possible, 1.0)
    if length:
        epochs = length["epochs"] if "epochs" in length else length["steps"] / in_epoch
        settings["train.checkpoint_every"] = max(in_epoch, CHECKPOINT_STEPS)
    else:
        settings["train.minutes"] = given if taken == given else float(f"{taken:.2g}")
    if epochs < FEW_EPOCHS and recipe.method.options.get("freeze_last_layer_epochs"):
        settings["method.freeze_last_layer_epochs"] = 0
    return Choice(settings, kind, epochs, taken, capped=not length and taken < given)


def kind_of(facts: ImageFacts) -> str:
    """The kind of images, as far as their pixels and labels show it."""
    if facts.all_gray or facts.channels:
        return GRAY
    return COLORS if facts.colors is not None and facts.colors.decisive else PHOTOGRAPHS


def view_size(facts: ImageFacts) -> int | None:
    """The side of views that shows all of images that are not large; None where the recipe's own is right."""
    return next((size for size in VIEW_SIZES if min(facts.width, facts.height) <= ENLARGED * size), None)


def batch_size(count: int, machine: Machine, full: int) -> int:
    """Samples of one step: the recipe's, but a power of two of which an epoch has some steps, and that a GPU's memory has room for.

    Args:
        count: Images that are trained on.
        machine: The machine.
        full: The recipe's.
    """
    batch = full
    if machine.memory is not None and machine.memory < FULL_MEMORY:
        batch = batch * machine.memory // FULL_MEMORY
    batch = min(batch, max(count // STEPS_IN_AN_EPOCH, 1))
    power = 2 ** int(math.log2(max(batch, 1)))
    power = min(max(power, SMALLEST_BATCH), full, count)
    return max(power // machine.processes, 1) * machine.processes
