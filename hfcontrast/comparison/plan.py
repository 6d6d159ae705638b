"""The plan of a comparison: its runs, their output folders, and the settings that they share."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, RecipeError
from ..paths import local_path, quoted
from ..recipe import Recipe, differences, load_recipe
from ..recipe.fingerprint import LENGTH, same_but_length
from ..recipe.named import ENDINGS, recipe_file, shipped_recipes
from ..recipe.precedence import is_shared, shared_beside
from ..recipe.published import own_recipe, published_values
from ..recipe.tasks import described_settings, evaluation_tasks
from ..renamed import without_warnings
from .grid import pairs_of

DEFAULTS = ("eval.linear_probe=true", "eval.every=")  # the table has the last step's scores only
_TOWERS = {"vision_config", "text_config", "vision", "text"}
# What may differ between two evaluations whose scores stand in one table.
_FREE = {"every", "batch_size", "baselines"}


@dataclass
class PlannedRun:
    """One training of a comparison.

    Attributes:
        name: What tables call it: its recipe's file name, without ending; of a pair those of both.
        file: The recipe's file.
        overrides: What `hfcontrast.run` gets after it.
        recipe: The two together, resolved.
        common: The file with what it shares with other recipes, if there is one.
        result: Its `result.json`, once it is finished.
        error: Why there is none, in one line, once it has failed.
    """

    name: str
    file: Path
    overrides: list[str]
    recipe: Recipe
    common: Path | None = None
    result: dict[str, Any] | None = None
    error: str | None = None

    @property
    def arguments(self) -> list[str]:
        """What `hfcontrast.run` gets to train it."""
        return [*(["--common", str(self.common)] if self.common else []), str(self.file), *self.overrides]

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return Path(self.recipe.train.output)

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.recipe.train.seed

    @cached_property
    def hash(self) -> str:
        """The hash of its recipe."""
        return self.recipe.fingerprint().hash

    @cached_property
    def image_size(self) -> int:
        """Side of the images that it is evaluated on, in pixels."""
        return self.recipe.publish.image_size or self.recipe.resolved_views()[0].size

    def pixels(self) -> str:
        """What raw pixels are evaluated by, as text: runs with the same share this baseline."""
        data, backbone = self.recipe.data, self.recipe.backbone
        pretrained = isinstance(backbone.written, dict) and backbone.pretrained  # its color statistics are taken
        ratio = self.recipe.publish.resize_ratio
        source = [data.source(), data.mean, data.std, _evaluation(self.recipe, trains=False)]
        return json.dumps([source, self.image_size, ratio, pretrained], sort_keys=True, default=str)

    def untrained(self) -> str:
        """What the untrained encoder is evaluated by, but for its seed: runs with the same share this baseline."""
        settings = _evaluation(self.recipe)
        return json.dumps([self.recipe.backbone.written, self.pixels(), settings], sort_keys=True, default=str)


def plan(
    recipes: Sequence[str | Path],
    overrides: Sequence[str],
    output: Path,
    seeds: Sequence[int] = (),
    common: str | Path | None = None,
    grid: bool = False,
) -> list[PlannedRun]:
    """Reads and checks all recipes before anything is trained.

    Args:
        recipes: Recipe files; one that they share is not a run.
        overrides: `key.path=value` settings that go before every file's.
        output: Folder of the comparison; a run's folder in it is NAME, or NAME_seedN where seeds are given.
        seeds: Seeds that each recipe is trained with; none: the one it has.
        common: The file with what all recipes share; None takes for each the ``common.yaml`` beside it, if there is one.
        grid: Whether every pair of recipes is trained too, with the settings of both.

    Raises:
        RecipeError: A recipe cannot be used, two have one name or do not go together, or an override sets what the comparison sets.
    """
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key == "train.output" or (key == "train.seed" and seeds):
            option = "--output" if key == "train.output" else "--seeds"
            raise RecipeError(f"{override}: the comparison sets {key} of every run itself: use {option}")
    shared = Path(common) if common is not None else None
    files = [
        file
        for given in recipes
        for file in _files_of(given)
        if not is_shared(file) and not (shared and _same(file, shared))
    ]
    if not files:
        raise RecipeError(
            f"{', '.join(map(str, recipes)) or 'no file'}: no recipe to train: name those that share it too"
        )
    runs: list[PlannedRun] = []
    named: list[tuple[str, Path, list[str]]] = [(file.stem, file, []) for file in files]
    for name, file, added in named + (pairs_of(files, shared) if grid else []):
        beside = shared or shared_beside(file)
        for seed in seeds or [None]:
            folder = output / (name if seed is None else f"{name}_seed{seed}")
            own = [] if seed is None else [f"train.seed={seed}"]
            arguments = [*DEFAULTS, *added, *overrides, *own, f"train.output={quoted(folder)}"]
            if same := next((run for run in runs if run.folder == folder), None):
                raise RecipeError(f"{file}: {same.file} has the same name or seed, and so the same folder {folder}")
            recipe = load_recipe(file, arguments, common=beside)
            if recipe.publish.push_to:
                raise RecipeError(
                    f"publish.push_to is {recipe.publish.push_to}, to which every run of the comparison would be pushed: leave it out (publish.push_to= on the "
                    "command line), and push the best one with `hfcontrast push`"
                )
            runs.append(PlannedRun(name, file, arguments, recipe, beside))
    return runs


def _files_of(given: str | Path) -> list[Path]:
    """The file of a recipe, or those of a folder that is named: of the working folder, else of the shipped ones."""
    folder = Path(given)
    if not folder.is_dir():
        shipped = [recipe.file for recipe in shipped_recipes().get(folder.as_posix().removeprefix("recipes/"), [])]
        return shipped or [recipe_file(given)]
    inside = sorted(file for file in folder.iterdir() if file.suffix in ENDINGS and not file.name.startswith("."))
    return inside or [recipe_file(given)]  # which is refused, with what to name


def _same(file: Path, other: Path) -> bool:
    return file.exists() and other.exists() and file.samefile(other)


def evaluation_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings that an evaluation's scores depend on, by key: of ``eval``, and ``tasks.NAME`` of each evaluator."""
    return {name: value for name, value in described_settings(recipe.eval).items() if name not in _FREE}


def _evaluation(recipe: Recipe, trains: bool = True) -> dict[str, Any]:
    """The same; those of evaluators that train a copy of the encoder only where they are wanted."""
    left_out = {f"tasks.{name}" for name, (evaluator, _) in evaluation_tasks(recipe.eval).items() if evaluator.trains}
    settings = evaluation_settings(recipe)
    return settings if trains else {name: value for name, value in settings.items() if name not in left_out}


def finished_result(run: PlannedRun) -> dict[str, Any] | None:
    """The result in the run's folder, if it is of the same recipe and evaluated in the same way.

    None too where only more evaluators are asked for: the run then resumes at its last checkpoint, trains nothing and evaluates.

    Raises:
        CheckpointError: The folder holds a run of the same recipe that is evaluated otherwise, or of another length.
    """
    former = own_recipe(run.folder)
    resumable = any((run.folder / "checkpoints").glob("step_*"))
    if former.exists() and (resumable or former_result(run)):
        with without_warnings():
            recipe = load_recipe(former, check=False)
            public = load_recipe(published_values(run.recipe).values, check=False)  # what is left without checkpoints
        before, after, named = (evaluation_settings(one) for one in (recipe, run.recipe, public))
        changed = [name for name in {**before, **after} if before.get(name) not in (after.get(name), named.get(name))]
        if resumable and recipe.fingerprint().hash != run.hash and same_but_length(recipe, run.recipe):
            texts = differences(_lengths(recipe), _lengths(run.recipe))
            raise CheckpointError(
                f"{run.folder} holds a run of another length ({'; '.join(texts)}), which resumed would not be one that was trained so from "
                "the start: choose another --output, or remove the folder"
            )
        if changed and (recipe.fingerprint().hash == run.hash or former_result(run)):
            if resumable and all(name.startswith("tasks.") and name not in before for name in changed):
                return None
            texts = differences(_nested(before, changed), _nested(after, changed))
            raise CheckpointError(
                f"{run.folder} holds a run that was evaluated otherwise ({'; '.join(texts)}): choose another --output, or "
                "remove the folder"
            )
    return former_result(run)


def _lengths(recipe: Recipe) -> dict[str, Any]:
    return {"train": {name: getattr(recipe.train, name) for name in LENGTH}}


def _nested(settings: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Some settings as they stand in a recipe."""
    own = {name: settings[name] for name in names if name in settings and not name.startswith("tasks.")}
    tasks = {name.removeprefix("tasks."): settings.get(name) for name in names if name.startswith("tasks.")}
    return {"eval": own | ({"tasks": tasks} if tasks else {})}


def former_result(run: PlannedRun) -> dict[str, Any] | None:
    """The result in the run's folder, if it is of the same recipe, however it was evaluated."""
    try:
        result = json.loads((run.folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if result.get("recipe_hash") == run.hash else None


def pixels_evaluated(run: PlannedRun, runs: Iterable[PlannedRun]) -> bool:
    """Whether a finished run has evaluated raw pixels for this one too.

    The untrained encoder is evaluated by every run: its weights are the seed's, and all runs then begin with the same memory.
    """
    finished = [other for other in runs if other.result]
    return any("raw_pixels" in other.result["scores"] and other.pixels() == run.pixels() for other in finished)


def unequal_settings(runs: Sequence[PlannedRun]) -> list[str]:
    """The settings of encoder, data, length and evaluation that are not the same in all runs, with their values."""
    found: dict[str, dict[str, None]] = {}
    backbones = _backbones(runs)
    texts = [run for run in runs if run.recipe.reads_captions]
    for run in runs:
        settings = run.recipe.fingerprint().settings
        values = backbones[run.folder] | {"image size": run.image_size}
        values |= {f"data.{name}": value for name, value in settings["data"].items()}
        values |= {f"train.{name}": value for name, value in settings["train"].items() if name != "seed"}
        values |= {f"text.{name}": value for name, value in settings["text"].items() if run in texts}
        values |= {f"eval.{name}": value for name, value in evaluation_settings(run.recipe).items()}
        for name, value in values.items():
            found.setdefault(name, {})[json.dumps(value, sort_keys=True)] = None
    return [
        name if any(len(value) > 20 for value in values) else f"{name} ({', '.join(values)})"
        for name, values in found.items()
        if len(values) > 1
    ]


def _backbones(runs: Sequence[PlannedRun]) -> dict[Path, dict[str, Any]]:
    """The backbone of each run, by its folder: setting by setting where all have two towers."""
    written = {run.folder: run.recipe.fingerprint().settings["backbone"] for run in runs}
    towers = [one.keys() & _TOWERS if isinstance(one, dict) else set() for one in written.values()]
    if not all(own and own == towers[0] for own in towers):
        return {folder: {"backbone": one} for folder, one in written.items()}
    names = dict.fromkeys(name for one in written.values() for name in one)
    return {folder: {f"backbone.{name}": one.get(name) for name in names} for folder, one in written.items()}


def split_arguments(items: Iterable[str]) -> tuple[list[str], list[str]]:
    """Separates recipe files from `key.path=value` overrides, which may be given in any order."""
    recipes: list[str] = []
    overrides: list[str] = []
    for item in items:
        is_override = re.match(r"[\w.]+=", item) and not Path(item).is_file()
        overrides.append(item) if is_override else recipes.append(local_path(item))
    return recipes, overrides
