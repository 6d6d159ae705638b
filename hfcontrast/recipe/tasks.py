"""What a recipe evaluates: `eval.tasks`, the short forms of it, and their check by the settings that evaluators declare."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..errors import DataError, PluginError
from .wording import did_you_mean, mismatch, show

if TYPE_CHECKING:
    from ..evaluation.protocol import Evaluator, Settings
    from .sections import EvalSection

Found = tuple[tuple[str, ...], str]  # the path of a key within `eval`, and what is wrong there


def asked_for(section: "EvalSection") -> dict[str, dict[str, Any] | bool]:
    """What `eval` says of each evaluator: its settings, true (its defaults) or false; the short forms spelled out.

    What `tasks` says goes before a short form.
    """
    knn = {"k": section.knn_k, "temperature": section.knn_temperature}
    found: dict[str, dict[str, Any] | bool] = {
        "knn": {name: value for name, value in knn.items() if value is not None},
        "zero-shot": section.zero_shot != [] and {"tasks": section.zero_shot},
        "retrieval": section.retrieval,
    }
    if section.linear_probe:
        found["linear"] = True
    if section.finetune:
        found["finetune"] = section.finetune
    for name, given in section.tasks.items():
        short = found.get(name)
        if isinstance(short, dict) and isinstance(given, dict):
            found[name] = {**short, **given}
        else:
            found[name] = True if given is None else given
    return found


def evaluation_tasks(section: "EvalSection") -> "dict[str, tuple[Evaluator, Settings]]":
    """The evaluators of a run with their settings, by name, in the order of their figures: those of every run and those asked for.

    Raises:
        PluginError: One that is asked for cannot be used.
    """
    from ..evaluation.registry import evaluators, get_evaluator

    asked, known = asked_for(section), evaluators()
    found = {}
    for name in [*known, *(name for name in asked if name not in known)]:
        wanted = asked.get(name, name in known and known[name].in_runs)
        if wanted is False:
            continue
        evaluator = known.get(name) or get_evaluator(name)  # which says why it cannot be used
        found[name] = evaluator, read_settings(evaluator.settings_class, {} if wanted is True else wanted)
    return found


def read_settings(settings_class: "type[Settings]", values: Mapping[str, Any]) -> "Settings":
    """The settings of an evaluator, from what a recipe or a command line gives.

    Raises:
        ValidationError: They are wrong; see :func:`settings_problems`.
    """
    return settings_class.model_validate_json(json.dumps(values))


def described_settings(section: "EvalSection") -> dict[str, Any]:
    """What figures depend on beside the encoder: all settings by key, the short forms and defaults spelled out, as JSON."""
    short = {"tasks", *SHORT_FORMS}
    found = section.model_dump(mode="json", exclude=short)
    tasks = {name: settings for name, (_, settings) in evaluation_tasks(section).items()}
    return found | {
        f"tasks.{name}": settings.model_dump(mode="json", exclude_none=True) for name, settings in tasks.items()
    }


# Settings of `eval` that are short forms, and what they are short for.
SHORT_FORMS = {
    "knn_k": "tasks.knn.k",
    "knn_temperature": "tasks.knn.temperature",
    "linear_probe": "tasks.linear",
    "finetune": "tasks.finetune",
    "zero_shot": "tasks.zero-shot.tasks",
    "retrieval": "tasks.retrieval",
}


@contextmanager
def named_refusal(name: str, named: bool) -> Iterator[None]:
    """Says which setting asked for the evaluator that refuses some data, and how to leave it out.

    Args:
        name: The evaluator's name.
        named: Whether `eval.tasks` names it; else its short form does, or nothing.

    Raises:
        DataError: As inside, with both.
    """
    try:
        yield
    except DataError as error:
        shorts = [] if named else [key for key, of in SHORT_FORMS.items() if of.startswith(f"tasks.{name}")]
        key = f"eval.{shorts[0]}" if shorts else f"eval.tasks.{name}"
        leave = f"{key}=[]" if key == "eval.zero_shot" else f"eval.tasks.{name}=false"
        raise DataError(f"{key}: {error}; {leave} leaves that evaluation out") from error


def check_tasks(section: "EvalSection") -> list[Found]:
    """Checks what `eval` says of evaluators by their own settings, and writes their defaults into what it names.

    Returns:
        What is wrong, with the path of the key within `eval`.
    """
    from ..evaluation.registry import get_evaluator

    problems: list[Found] = []
    given: list[tuple[tuple[str, ...], str, Any]] = [
        (("tasks", name), name, value) for name, value in section.tasks.items()
    ]
    given.append((("finetune",), "finetune", section.finetune))
    if section.zero_shot:
        given.append((("zero_shot",), "zero-shot", {"tasks": section.zero_shot}))
    for path, name, value in given:
        try:
            evaluator = get_evaluator(name) if value is not False else None
        except PluginError as error:
            problems.append((path, str(error)))
            continue
        if evaluator is not None and isinstance(value, dict):
            settings, more = checked(evaluator.settings_class, value)
            problems += [((*path, *(where[1:] if path == ("zero_shot",) else where)), text) for where, text in more]
            if settings is not None:
                _fill(section, path, settings)
    return problems


def tasks_of_wrong_type(tasks: dict[str, Any]) -> list[Found]:
    """What of `eval.tasks` is neither a mapping nor true, false or null."""
    return [
        (("tasks", name), f"expected a mapping of its settings, got {show(value)}")
        for name, value in tasks.items()
        if not (value is None or isinstance(value, bool | dict))
    ]


def _fill(section: "EvalSection", path: tuple[str, ...], settings: "Settings") -> None:
    """Writes settings with their defaults in the place of those that were given."""
    if path[0] == "tasks":
        given: Any = section.tasks[path[1]]
        full = settings.model_dump(mode="json")
        short = {key.rpartition(".")[2] for key in SHORT_FORMS.values() if key.startswith(f"tasks.{path[1]}.")}
        section.tasks[path[1]] = {name: value for name, value in full.items() if name in given or name not in short}
    elif path[0] == "finetune":
        section.finetune = settings.model_dump(mode="json")
    else:
        section.zero_shot = settings.model_dump(mode="json")["tasks"]


def checked(settings_class: "type[Settings]", values: dict[str, Any]) -> "tuple[Settings | None, list[Found]]":
    """The settings of an evaluator, or what is wrong with them, with its place among them."""
    try:
        return read_settings(settings_class, values), []
    except ValidationError as error:
        return None, settings_problems(settings_class, values, error)


def settings_problems(settings_class: "type[Settings]", values: dict[str, Any], error: ValidationError) -> list[Found]:
    """What a validation found, in the words of recipes' errors; one for each setting."""
    found: dict[tuple[str, ...], str] = {}
    for item in error.errors(include_url=False, include_input=True):
        parts = [part for part in item["loc"] if isinstance(part, int) or part.isidentifier()]
        model, path = settings_class, []
        for part in parts:  # into the models that stand in lists
            path.append(str(part))
            if (
                isinstance(part, str)
                and part in model.model_fields
                and (inner := _model_in(model.model_fields[part].annotation))
            ):
                if part == parts[-1] or len(parts) == len(path):
                    break
                model = inner
        name = next((part for part in reversed(path) if not part.isdigit()), "")
        if item["type"] == "extra_forbidden":
            text = f"unknown key{did_you_mean(name, model.model_fields)}"
        elif item["type"] == "string_pattern_mismatch":
            text = f"expected text that matches {item['ctx']['pattern']}, got {show(item['input'])}"
        elif name in model.model_fields:
            field = model.model_fields[name]
            text = mismatch(_at(values, path), field.annotation, field.metadata)
        else:
            text = f"{item['msg'][:1].lower()}{item['msg'][1:]}, got {show(item['input'])}"
        found.setdefault(tuple(path), text)
    return list(found.items())


def _model_in(annotation: Any) -> "type[Settings] | None":
    from typing import get_args

    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _model_in(part))), None)


def _at(values: Any, path: list[str]) -> Any:
    for part in path:
        values = (
            values[int(part)] if isinstance(values, list) else values.get(part) if isinstance(values, dict) else None
        )
    return values
