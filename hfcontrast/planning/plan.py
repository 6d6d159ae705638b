"""The plan of a run on a folder of images: looks at them, at the machine and the time, chooses a recipe and says why."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..console import is_first_process
from ..data.held_out import TRAIN
from ..data.sources.unpacking import ENDINGS, stem_of
from ..errors import CheckpointError, RecipeError
from ..recipe import Recipe, load_recipe
from ..recipe.named import name_of, recipe_file
from ..recipe.published import FILE, own_recipe
from ..renamed import without_warnings
from .choice import Choice, choose, recipe_for
from .images import look, source_of
from .kinds import AUTO, KINDS, LATER, STRENGTHS
from .machine import this_machine
from .released import RECIPE as RELEASED
from .released import check_resumed, for_released_weights, refuse_twice, weights_override
from .telling import five_lines

LENGTHS = frozenset({"train.epochs", "train.steps", "train.minutes"})
_GENERIC = (*TRAIN, "images", "image", "imgs", "img", "data", "dataset")  # names of folders that say nothing


def plan_run(
    images: str,
    recipe: str | None,
    overrides: Sequence[str],
    minutes: float | None = None,
    kind: str | None = None,
    common: str | None = None,
    weights: str | None = None,
) -> Recipe:
    """The recipe of a run on a folder of images, which is new or resumed.

    Args:
        images: The folder, archive or table.
        recipe: The recipe that is asked for; None chooses one.
        overrides: ``key.path=value`` settings, which go before what is chosen.
        minutes: What ``--time`` says.
        kind: What ``--kind`` says.
        common: A file with settings that recipes share.
        weights: What ``--from`` says: released weights to start from.

    Raises:
        HFContrastError: The images cannot be trained on, or the output folder holds another run.
    """
    given = _given(overrides)
    _check_given(given.keys(), images, minutes)
    if weights is not None:
        refuse_twice(set(given), weights)
    source = source_of(images)
    output = given.get("train.output") or os.path.join("outputs", run_name(images))
    if (former := _begun(Path(output))) is not None:
        timed = [] if minutes is None else [f"train.minutes={minutes:g}"]
        return _resumed(Path(output), former, images, source, recipe, [*timed, *overrides], kind, weights)
    if weights is not None:
        overrides, recipe = [weights_override(recipe, weights), *overrides], recipe or RELEASED
    machine = this_machine(given.get("train.device", "auto"))
    file = recipe_file(recipe if recipe is not None else recipe_for(machine))
    where = [*(f"data.{key}={value}" for key, value in source.items()), f"train.output={output}"]
    base = load_recipe(file, [*where, *overrides], common=common)
    facts = look(base.data.source(), images, base.data.channels, base.data.max_unreadable)
    if recipe is None and (name := recipe_for(machine, facts)) != recipe_for(machine):
        file = recipe_file(name)
        base = load_recipe(file, [*where, *overrides], common=common)
    chosen = choose(facts, machine, base, minutes, kind, _length(base, given.keys()), picked=recipe is None)
    chosen = for_released_weights(chosen, facts, machine, base, minutes)
    own = [f"{key}={json.dumps(value)}" for key, value in _without_given(chosen, given.keys()).items()]
    found = load_recipe(file, [*where, *own, *overrides], common=common)
    if is_first_process():
        name = name_of(file) if recipe is None else recipe
        for line in five_lines(facts, machine, chosen, found, name, picked=recipe is None):
            print(line, flush=True)
    return found


def _otherwise(view: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether a view is not as a kind of images has it."""
    own = view.get(key, value)
    return own > value if key in STRENGTHS else own != value


def _given(overrides: Sequence[str]) -> dict[str, str]:
    """The keys of overrides, and what stands behind their ``=``."""
    parts = (override.partition("=") for override in overrides)
    return {key.strip(): value.strip() for key, _, value in parts}


def _length(recipe: Recipe, keys: Collection[str]) -> dict[str, float]:
    """The length that a command line fixes otherwise than by a time: ``epochs`` or ``steps``; empty where it fixes none."""
    named = {name: getattr(recipe.train, name) for name in ("epochs", "steps") if f"train.{name}" in keys}
    return {name: value for name, value in named.items() if value}


def _check_given(keys: Collection[str], images: str, minutes: float | None) -> None:
    """Refuses settings that say once more what an option says.

    Raises:
        RecipeError: There are some.
    """
    if minutes is not None and (fixed := sorted(LENGTHS.intersection(keys))):
        raise RecipeError(f"--time and {fixed[0]} both say how long to train: keep one of them")
    if where := sorted({"data.path", "data.data_dir", "data.data_files"}.intersection(keys)):
        raise RecipeError(f"--images {images} says where the images are, and so does {where[0]}: keep one of them")


def run_name(images: str) -> str:
    """What the output folder of a run on a folder of images is called: as the folder, or the one that it is in where that says nothing."""
    path = Path(os.path.abspath(images))
    name = path.name
    if not path.is_dir():
        name = stem_of(str(path)) if name.lower().endswith(ENDINGS) else path.stem
    while name.lower() in _GENERIC and path.parent.name:
        path = path.parent
        name = path.name
    return name or "images"


def _without_given(chosen: Choice, keys: Collection[str]) -> dict[str, object]:
    """The settings that were chosen, but those that the command line sets, alone or in another way."""
    settings = {key: value for key, value in chosen.settings.items() if key not in keys}
    if LENGTHS.intersection(keys):
        settings.pop("train.minutes", None)
    for_all = {key.removeprefix("views.all.") for key in keys if key.startswith("views.all.")}
    whole = {"views", "views.all"}.intersection(keys)
    return {
        key: value
        for key, value in settings.items()
        if not (key.startswith("views.") and (whole or key.rpartition(".")[2] in for_all))
    }


def _begun(output: Path) -> Path | None:
    """The recipe, with the paths of this machine, of the run that an output folder holds; None without one that can be resumed."""
    own = own_recipe(output)
    whole = own != output / FILE or any((output / "checkpoints").glob("step_*"))
    return own if whole and own.is_file() else None


def _resumed(
    folder: Path,
    former: Path,
    images: str,
    source: dict[str, str],
    recipe: str | None,
    overrides: list[str],
    kind: str | None,
    weights: str | None,
) -> Recipe:
    """The recipe of a run that has begun, with what was chosen then.

    Raises:
        CheckpointError: The run is on other images, or by another recipe than the one that is asked for.
    """
    with without_warnings():
        before = load_recipe(former, former=True)
    advice = "choose another train.output, or remove the folder"
    there = before.data.data_dir or before.data.path
    if os.path.realpath(there) != os.path.realpath(source.get("data_dir", source["path"])):
        raise CheckpointError(f"{folder} holds a run on other images ({there}): {advice}")
    if weights is not None:
        check_resumed(before, weights)
    elif recipe is not None:
        asked = load_recipe(recipe_file(recipe), [f"data.path={source['path']}"], check=False)
        if (asked.method.name, asked.backbone.written) != (before.method.name, before.backbone.written):
            raise CheckpointError(
                f"{folder} holds a run of {before.method.name} by another recipe than {recipe}: {advice}"
            )
    if kind not in (None, AUTO):
        wanted = {key: value for key, value in KINDS[kind].views.items() if key not in LATER}
        if any(_otherwise(view, key, value) for view in before.views.values() for key, value in wanted.items()):
            raise CheckpointError(f"{folder} holds a run with other views than those of --kind {kind}: {advice}")
    found = load_recipe(former, overrides, former=True)
    found.train.output = str(folder)
    if is_first_process():
        print(
            f"{folder} holds a run on {images}: it is resumed with the recipe that was chosen for it, {former}",
            flush=True,
        )
    return found
