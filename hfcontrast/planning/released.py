"""What is chosen for a run that trains released weights further, whose encoders are larger than those of recipes/photos."""

from dataclasses import replace

from ..errors import CheckpointError, RecipeError
from ..recipe import Recipe
from .choice import MINUTES, MOST_EPOCHS, Choice, size_of
from .images import ImageFacts
from .machine import Machine

RECIPE = "photos/continue"
# Images that a second of training takes, roughly, of an encoder such as ViT-S/16: of a CPU core at _CPU_SIZE, or a GPU.
IMAGES_PER_SECOND = {"cpu": 10.0, "gpu": 800.0, "gpus": 600.0}
CPU_SIZE = 112  # pixels a side; patches of 14 and of 16 fit in
_WARMUP, _LONGEST_WARMUP = 0.1, 200  # share of the steps, and steps


def weights_override(recipe: str | None, weights: str) -> str:
    """The setting that names released weights.

    Args:
        recipe: The recipe that is asked for; None: the one for released weights.
        weights: Their name on the Hub, or their folder.
    """
    if recipe in (None, RECIPE):
        return f"backbone.pretrained={weights}"
    return f"backbone={{pretrained: '{weights}'}}"


def refuse_twice(keys: set[str], weights: str) -> None:
    """Refuses settings that name an encoder beside ``--from``.

    Raises:
        RecipeError: There are some.
    """
    if named := sorted({"backbone", "backbone.pretrained"} & keys):
        raise RecipeError(f"--from {weights} says what to start from, and so does {named[0]}: keep one of them")


def check_resumed(before: Recipe, weights: str) -> None:
    """Refuses to resume a run that started from other weights.

    Raises:
        CheckpointError: It did.
    """
    if (started := before.backbone.pretrained) != weights:
        raise CheckpointError(
            f"{before.train.output} holds a run that started from {started or 'random weights'}, not from {weights}: choose another train.output, "
            "or remove the folder"
        )


def for_released_weights(
    chosen: Choice, facts: ImageFacts, machine: Machine, recipe: Recipe, minutes: float | None
) -> Choice:
    """A choice for a recipe that starts from released weights, where it does; else the choice as it is.

    Args:
        chosen: What was chosen for the images, the machine and the time.
        facts: The images.
        machine: The machine.
        recipe: The recipe.
        minutes: What ``--time`` says.
    """
    if not recipe.released_weights:
        return chosen
    settings, epochs = dict(chosen.settings), chosen.epochs
    taken, capped = chosen.minutes, chosen.capped
    batch = int(str(settings.get("train.batch_size", recipe.train.batch_size)))
    if timed := "train.minutes" in settings:
        speed = IMAGES_PER_SECOND[size_of(machine)] * machine.processes
        speed *= machine.cores if machine.device == "cpu" else 1
        given = MINUTES if minutes is None else minutes
        possible = given * 60 * speed / facts.count
        taken, epochs, capped = (
            given * min(MOST_EPOCHS / possible, 1.0),
            min(possible, MOST_EPOCHS),
            possible > MOST_EPOCHS,
        )
        settings["train.minutes"] = float(f"{taken:.4g}")
    steps = max(round((epochs or 1) * max(facts.count // batch, 1)), 1)
    warmup = min(max(min(round(_WARMUP * steps), _LONGEST_WARMUP), 2), steps - 1)  # it ends before the training does
    settings["optim.warmup_steps"] = warmup
    if recipe.optim.freeze_encoder_steps:
        settings["optim.freeze_encoder_steps"] = warmup // 2
    if timed:
        settings.pop("train.checkpoint_every", None)  # ten in all
    if machine.device == "cpu":
        for name, view in recipe.views.items():
            if view["size"] > CPU_SIZE:
                settings[f"views.{name}.size"] = CPU_SIZE
    return replace(chosen, settings=settings, epochs=epochs, minutes=taken, capped=capped)
