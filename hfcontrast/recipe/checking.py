"""Checking recipes: sections by their types, and the settings of the method."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from ..errors import PluginError
from .renamed import both_given
from .sections import SECTIONS, EvalSection, Section
from .tasks import check_tasks, tasks_of_wrong_type
from .wording import did_you_mean, mismatch, nearest, show

if TYPE_CHECKING:
    from ..methods.base import Method
    from ..methods.contract.source import Declared

TOP_LEVEL = (
    "method",
    "backbone",
    "data",
    "text",
    "views",
    "optim",
    "train",
    "eval",
    "early_stopping",
    "track",
    "publish",
)
EXAMPLES = {
    "method": "{name: simclr, temperature: 0.2}",
    "backbone": "timm/resnet18 or {model_type: vit, hidden_size: 192} or {pretrained: facebook/dinov2-small}",
    "data": "{path: builtin/shapes}",
    "text": "{vocab_size: 4096, max_length: 32}",
    "views": "{all: {size: 96}}",
    "optim": "{name: adamw, lr: 0.001}",
    "train": "{epochs: 100, batch_size: 256}",
    "eval": "{every: 500}",
    "early_stopping": "{every: auto}",
    "track": "{to: [tensorboard]}",
    "publish": "{license: apache-2.0}",
}
REQUIRED = ("method", "backbone", "data")
# Where a key belongs that stands in the wrong section; of two sections that know it, the earlier.
_ELSEWHERE = {
    name: f"{section}.{name}"
    for section, model in reversed(SECTIONS.items())
    for name in model.model_fields
    if name not in ("name", "path", "split")
}


class Problem(NamedTuple):
    """One thing that is wrong with a recipe: the path of the key, and what was expected there."""

    path: tuple[str, ...]
    text: str


def fits(kind: Any, value: Any) -> tuple[bool, Any]:
    """Says whether a value is of an annotated type, and gives it as that type (lists become tuples).

    Values are checked strictly, as JSON: an integer is a valid number, and nothing else is converted.
    """
    try:
        adapter = TypeAdapter(kind)
    except (PydanticUserError, PydanticUndefinedAnnotation):
        return True, value  # a type that pydantic does not know is left to the configuration class
    try:
        return True, adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return False, value


def check_sections(values: dict[str, Any]) -> tuple[dict[str, Section], list[Problem]]:
    """Checks every section by its types alone; returns the sections that are right, and the problems."""
    sections: dict[str, Section] = {}
    problems = [Problem((name,), _unknown_top_level(name)) for name in values if name not in TOP_LEVEL]
    for name in TOP_LEVEL:
        value = values.get(name)
        if value is None and name in REQUIRED:
            problems.append(Problem((name,), f"missing; give e.g. {name}: {EXAMPLES[name]}"))
        elif value is not None and not (isinstance(value, dict) or (name == "backbone" and isinstance(value, str))):
            problems.append(Problem((name,), f"expected a mapping such as {EXAMPLES[name]}, got {show(value)}"))
        elif name in SECTIONS:
            try:
                sections[name] = SECTIONS[name].model_validate_json(json.dumps(value or {}))
            except ValidationError as error:
                problems += _section_problems(name, value if isinstance(value, dict) else {}, error)
    return sections, problems + _contradictions(sections)


def _contradictions(sections: dict[str, Section]) -> list[Problem]:
    """Settings of two sections that are fine alone but not together."""
    if "optim" not in sections or "train" not in sections:
        return []
    optim, batch = sections["optim"], sections["train"].batch_size
    peak = optim.peak_lr(batch)
    if optim.schedule != "cosine" or optim.min_lr <= peak:
        return []
    rule = (
        "" if optim.scale_lr == "none" else f" (lr {optim.lr:g}, scale_lr {optim.scale_lr}, train.batch_size {batch})"
    )
    text = (
        f"is {optim.min_lr:g}, above the peak learning rate of {peak:g}{rule}, and is never scaled itself: the rate would rise "
        "to the end; lower it, or raise lr"
    )
    return [Problem(("optim", "min_lr"), text)]


def _unknown_top_level(name: str) -> str:
    if not nearest(name, TOP_LEVEL) and name in _ELSEWHERE:
        return f"unknown section; did you mean {_ELSEWHERE[name]}?"
    return f"unknown section{did_you_mean(name, TOP_LEVEL)}"


def _section_problems(section: str, values: dict[str, Any], error: ValidationError) -> Iterator[Problem]:
    model, done = SECTIONS[section], set()
    for item in error.errors(include_url=False, include_input=False):
        if item["type"] == "contradiction":
            yield from (Problem((section, name), text) for name, text in item["ctx"]["found"])
            continue
        name = str(item["loc"][0])
        if name in done:  # a union reports each of its parts
            continue
        done.add(name)
        if item["type"] == "extra_forbidden":
            elsewhere = "" if nearest(name, model.model_fields) else _ELSEWHERE.get(name, "")
            hint = f"; did you mean {elsewhere}?" if elsewhere else did_you_mean(name, model.model_fields)
            yield Problem((section, name), f"unknown key{hint}")
        elif item["type"] == "missing" and len(item["loc"]) == 1:
            yield Problem((section, name), f"missing. {model.model_fields[name].description}")
        else:
            if section == "eval" and name == "tasks" and isinstance(values.get(name), dict):
                yield from (Problem((section, *path), text) for path, text in tasks_of_wrong_type(values[name]))
                continue
            known = model.model_fields[name]
            yield Problem((section, name), mismatch(values.get(name), known.annotation, known.metadata))


def check_evaluators(section: EvalSection) -> list[Problem]:
    """Checks what `eval` says of evaluators by the settings that they declare; fills in their defaults."""
    return [Problem(("eval", *path), text) for path, text in check_tasks(section)]


def find_method(name: Any) -> tuple["type[Method] | None", list[Problem]]:
    """Imports the method that a recipe names, and others that have its model_type, and so would have its saved runs."""
    from ..methods.registry import get_method, register_model_type

    if not isinstance(name, str):
        return None, []  # check_sections has said so
    try:
        method = get_method(name)
        register_model_type(method.config_class.model_type)
    except PluginError as error:
        return None, [Problem(("method", "name"), str(error))]
    return method, []


def renamed_settings(section: Any) -> dict[str, str]:
    """Old name -> new name of the settings of the method that a recipe's ``method`` names, as far as its source says it."""
    from ..methods.registry import declaration

    if not isinstance(section, dict) or not isinstance(section.get("name"), str):
        return {}
    try:
        return dict(declaration(section["name"]).config_class.renamed_settings)
    except Exception:  # the check of the method reports the error
        return {}


def own_settings(
    method: "type[Method] | Declared", section: dict[str, Any], overridden: Iterable[tuple[str, ...]]
) -> dict[str, Any]:
    """A method's settings without those of the file that the command line sets under their other name, the old or the new one.

    Args:
        method: The method.
        section: The recipe's ``method``.
        overridden: The paths of the recipe that the command line sets.
    """
    options = {name: value for name, value in section.items() if name != "name"}
    names = {path[1] for path in overridden if path[0] == "method" and len(path) == 2}
    renamed = method.config_class.renamed_settings
    set_here = {renamed.get(name, name) for name in names}
    return {name: v for name, v in options.items() if name in names or renamed.get(name, name) not in set_here}


def check_method(method: "type[Method] | Declared", options: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Checks a method's own settings; returns all of them with their defaults, and the problems."""
    from huggingface_hub.errors import StrictDataclassError

    from ..methods.registry import method_fields

    known = {field.name: field for field in method_fields(method)}
    problems, given, as_written = [], {}, {}
    for written, value in options.items():
        name = method.config_class.renamed_settings.get(written, written)
        if name != written and name in options:
            problems.append(Problem(("method", written), both_given(name)))
            continue
        as_written[name] = written
        if name not in known:
            problems.append(Problem(("method", written), f"unknown key{did_you_mean(name, ['name', *known])}"))
            continue
        right, given[name] = fits(known[name].type, value)
        if not right:
            problems.append(Problem(("method", written), mismatch(value, known[name].type)))
            del given[name]
    try:
        config = method.config_class(**given)
    except (StrictDataclassError, ValueError, TypeError) as error:
        found = re.search(r"(?:validator 'validate_|field ')(\w+)'", str(error))
        name = found[1] if found and found[1] in known else ""
        path = ("method", as_written.get(name, name)) if name else ("method",)
        if not problems or name in given:  # else what is missing may be what the check misses
            problems.append(Problem(path, str(error.__cause__ or error)))
        return {}, problems
    resolved = {name: getattr(config, name) for name in known}
    return {name: value for name, value in resolved.items() if name in given or _is_plain(value)}, problems


def _is_plain(value: Any) -> bool:
    """Whether a default can stand in YAML."""
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
