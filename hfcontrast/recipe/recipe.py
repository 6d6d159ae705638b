"""The recipe of a run as one typed object: read from YAML with overrides, checked, and written beside its results."""

import contextlib
import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, PrivateAttr, WithJsonSchema

from ..atomic import write_text
from ..encoders.config import Backbone
from ..errors import RecipeError
from ..renamed import without_warnings
from ..view import View
from .checking import Problem, check_sections, find_method
from .differences import differences
from .early_stopping import EarlyStoppingSection
from .fingerprint import Fingerprint, fingerprint_of
from .in_memory import InMemory, as_text, check_dataset, named_datasets
from .named import recipe_file
from .path_keys import KeyPath
from .paths import Expanded, as_written, check_output, expand_paths
from .precedence import add_shared, prefer_overrides, refuse_without_the_rest
from .reading import Document, apply_overrides, read_file
from .renamed import rename_keys, warn_of_old_keys
from .resolving import raise_problems, resolve
from .sections import (
    DataSection,
    EvalSection,
    MethodSection,
    OptimSection,
    PublishSection,
    SourceFields,
    TextSection,
    TrackSection,
    TrainSection,
)
from .short_forms import join_short_forms
from .views import check_left_out, check_recipe_views
from .writing import as_yaml

if TYPE_CHECKING:
    from ..methods.base import Method

_SOURCE = ("path", "name", "data_dir", "data_files", "revision")  # what says where rows come from


class Recipe(BaseModel):
    """A whole run: what is trained, on which data, how, and what it leaves.

    :func:`load_recipe` reads, checks and resolves one: all settings of the method and of its views are then filled in.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    method: MethodSection = Field(description="The method and its own settings.")
    backbone: Annotated[
        Backbone, PlainValidator(Backbone.read), PlainSerializer(lambda backbone: backbone.written), WithJsonSchema({})
    ] = Field(
        description="The encoder: timm/ARCHITECTURE, a transformers configuration {model_type: vit, ...}, both with "
        "random weights; or {pretrained: NAME_OR_FOLDER} to start from weights, with lora: {r: 16}, trainable_layers: 2, freeze_batch_norm: true or locked: [vision]. Two towers: "
        "{model_type: clip, ...}, or {model_type: vision-text-dual-encoder, vision: BACKBONE, text: BACKBONE}."
    )
    data: DataSection = Field(description="What is trained on, and how it is read.")
    text: TextSection = Field(default_factory=TextSection, description="How captions become tokens.")
    views: dict[str, dict[str, Any]] = Field(
        {}, description="Changes to the method's views, by view name, or under `all` for every view (applied first)."
    )
    optim: OptimSection = Field(default_factory=OptimSection, description="How the weights are changed.")
    train: TrainSection = Field(description="How long, how fast and where to training runs.")
    eval: EvalSection = Field(default_factory=EvalSection, description="How the encoder is evaluated.")
    early_stopping: EarlyStoppingSection = Field(
        default_factory=EarlyStoppingSection,
        description="When the learning rate is lowered, the best state restored or the training ended, because the encoder gets worse.",
    )
    track: TrackSection = Field(default_factory=TrackSection, description="Where the curves go.")
    publish: PublishSection = Field(default_factory=PublishSection, description="What is published.")
    _source: str | None = PrivateAttr(None)
    _expanded: dict[KeyPath, Expanded] = PrivateAttr(default_factory=dict)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, Backbone.read(value) if name == "backbone" else value)

    @property
    def source(self) -> str | None:
        """The file that the recipe was read from, as the user named it."""
        return self._source

    def to_dict(self) -> dict[str, Any]:
        """Returns all settings as plain mappings, lists and scalars; :func:`load_recipe` reads them back.

        Paths are as they were written, ``~`` included.
        """
        found = self.model_dump(mode="json") | {
            name: getattr(self, name).model_dump(mode="json") | {"path": as_text(getattr(self, name).path)}
            for name in ("data", "eval")
        }
        return as_written(copy.deepcopy(found), self._expanded)

    def save(self, path: str | Path) -> None:
        """Writes all settings as YAML that :func:`load_recipe` reads back."""
        write_text(path, self.to_yaml())

    def to_yaml(self) -> str:
        """Returns all settings as YAML that :func:`load_recipe` reads back."""
        return as_yaml(self.to_dict())

    def check(self) -> "Recipe":
        """Checks everything again, the method, backbone and views included; returns the resolved recipe.

        Raises:
            RecipeError: With all problems, one a line.
        """
        held = getattr(self.data.path, "dataset", None)
        checked = load_recipe(self.to_dict(), source=self._source, dataset=held)
        checked.eval.path = self.eval.path
        return checked

    def resolved_views(self, method: "type[Method] | None" = None) -> tuple[View, ...]:
        """Returns the method's views with this recipe's changes, without those whose count is 0.

        Args:
            method: The method's class; None looks it up by its name.

        Raises:
            RecipeError: A view or field that does not exist, a value out of its range, or a view that the method needs is left out.
        """
        if method is None:
            method, problems = find_method(self.method.name)
            raise_problems(problems, Document({}, self._source or "recipe"))
        views, problems = check_recipe_views(cast("type[Method]", method), self.views)
        problems += check_left_out(cast("type[Method]", method), views)
        raise_problems(problems, Document({}, self._source or "recipe"))
        shown = [view.without_color() if self.data.other_channels else view for view in views]
        return tuple(view for view in shown if view.count)

    def evaluation_source(self) -> dict[str, Any]:
        """What `hfcontrast.data` needs to open the rows to evaluate on; where `eval` names no data set, those of `data`.

        The split is not among them: null in a recipe means the best of those that there are.
        """
        own = {name: getattr(self.eval, name) for name in SourceFields.model_fields}
        if self.eval.path is None:
            own = {name: getattr(self.data, name) if value is None else value for name, value in own.items()}
        shared = ("streaming", "open_addresses", "max_pixels", *self.data.decoded_by())
        return own | {name: getattr(self.data, name) for name in shared}

    @property
    def released_weights(self) -> tuple[str, ...]:
        """Folders and names on the Hub that the encoder, or its towers, get their first weights from; none: random ones."""
        return tuple(weights.name for weights in self.backbone.weights.values())

    @property
    def reads_captions(self) -> bool:
        """Whether its method learns from captions."""
        from ..methods.contract.arguments import needs_captions
        from ..methods.registry import get_method

        return needs_captions(get_method(self.method.name))

    def fingerprint(self) -> Fingerprint:
        """Returns what must be equal to continue a run: all but how it is reported and which machine computes it."""
        return fingerprint_of(self)

    def difference(self, other: "Recipe") -> list[str]:
        """Returns what changes from this recipe to another: `optim.lr: 0.1 -> 0.2`."""
        return differences(self.to_dict(), other.to_dict())


def load_recipe(
    recipe: str | Path | Mapping[str, Any],
    overrides: Iterable[str] = (),
    *,
    check: bool = True,
    source: str | None = None,
    dataset: Any = None,
    common: str | Path | None = None,
    former: bool = False,
) -> Recipe:
    """Reads, checks and resolves a recipe.

    In Python, ``data.path`` and ``eval.path`` of a mapping may be data sets that are open already.

    Args:
        recipe: A YAML file, the name of a shipped recipe such as ``photos/simclr``, or the settings as a mapping.
        overrides: `key.path=value` settings that go before the file's; the value is YAML, and empty means null.
        check: Whether the method, the backbone and the views are checked and filled in, which imports the method.
            False reads the types only, in milliseconds.
        source: What a mapping is called in messages.
        dataset: An open data set of ``datasets`` (or its splits, as a ``DatasetDict``) to train on, in place of that of ``data``.
        common: A YAML file with settings that several recipes share: the recipe's own go before them, key by key of a section, and
            as a whole for the backbone.
        former: Whether it is one that a run has written, which may give a short form beside what it is short for: the latter counts.

    Raises:
        RecipeError: With all problems, one a line, each with its place, key, what was expected and what was found.
    """
    recipe = recipe if isinstance(recipe, Mapping) else recipe_file(recipe)
    document, held = _read(recipe, source, common)
    if dataset is not None:
        check_dataset(dataset)
        held["data"] = InMemory(dataset)
        _train_on(document, str(held["data"]))
    apply_overrides(document, overrides)
    rename_keys(document)  # an override can be a whole section
    prefer_overrides(document)
    contradictions = join_short_forms(document)
    values = document.values
    expanded = expand_paths(values)
    sections, problems = check_sections(values)
    problems = [*check_output(values), *(Problem(path, text) for path, text in document.conflicts), *problems]
    if check and not former:
        problems += contradictions
    resolved = resolve(values, sections, problems, document) if check else {}
    warn_of_old_keys(document)
    if common is None and not isinstance(recipe, Mapping):
        refuse_without_the_rest(problems, recipe)
    raise_problems(problems, document)
    result = Recipe(
        **cast(dict[str, Any], sections),
        backbone=values["backbone"],
        views=resolved["views"] if check else {name: view or {} for name, view in (values.get("views") or {}).items()},
    )
    _hand_over(held, result)
    result._expanded = expanded
    result._source = source if isinstance(recipe, Mapping) else str(recipe)
    if result.train.output is None and result._source:
        result.train.output = f"outputs/{Path(result._source).stem}"
    return result


def _read(
    recipe: str | Path | Mapping[str, Any], source: str | None, common: str | Path | None
) -> tuple[Document, dict[str, InMemory]]:
    """The settings of a recipe and of the file that it shares with others, and the data sets that were open already."""
    held: dict[str, InMemory] = {}
    if isinstance(recipe, Mapping):
        named, held = named_datasets(recipe)
        document = Document(_plain(named, source or "recipe"), source or "recipe")
    else:
        document = read_file(_with_paths(recipe))
    rename_keys(document)
    if common is not None:
        add_shared(document, read_file(common, shared=True))
    return document, held


def _with_paths(file: str | Path) -> str | Path:
    """In the place of the recipe that a run has published, if nobody has changed it, the run's own, which has this machine's paths."""
    from .published import FILE, OWN_FILE, published_yaml

    own = Path(file).parent / OWN_FILE
    if Path(file).name != FILE or not own.is_file():
        return file
    with contextlib.suppress(RecipeError, OSError, UnicodeDecodeError), without_warnings():
        if published_yaml(load_recipe(own, check=False, former=True)) == Path(file).read_text(encoding="utf-8"):
            return own
    return file


def _hand_over(held: dict[str, InMemory], recipe: Recipe) -> None:
    """Puts open data sets in the places of their names, unless an override names another."""
    for section, path in held.items():
        if getattr(recipe, section).path == path:
            getattr(recipe, section).path = path


def _train_on(document: Document, path: str) -> None:
    """Replaces what says where the rows come from; how they are read stays."""
    own = document.values.get("data")
    kept = {name: value for name, value in own.items() if name not in _SOURCE} if isinstance(own, dict) else {}
    document.values["data"] = {**kept, "path": path}


def _plain(recipe: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A copy of settings that YAML could hold too.

    Raises:
        RecipeError: They are something else.
    """
    try:
        copy: dict[str, Any] = json.loads(json.dumps(recipe))
    except (TypeError, ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise RecipeError(
            f"{source}: settings are mappings, lists, texts, numbers, true, false and null: {why}"
        ) from error
    return copy
