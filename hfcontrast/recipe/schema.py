"""The JSON schema of a recipe, for editors to complete and check it while it is written."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from .backbone import ADAPTATION, LORA
from .recipe import Recipe
from .sections import SECTIONS
from .views import VIEW_FIELDS

if TYPE_CHECKING:
    from ..evaluation.protocol import Evaluator
    from ..methods.base import Method


def json_schema(
    methods: "Mapping[str, type[Method]]", evaluators: "Mapping[str, Evaluator] | None" = None
) -> dict[str, Any]:
    """Returns the JSON schema (draft 2020-12) of a recipe.

    Args:
        methods: The methods that a recipe can name, by name: each gives its own settings with types and meanings.
        evaluators: The evaluators, in the same way; None: all that are installed.
    """
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "hfcontrast recipe"
    properties, definitions = schema["properties"], schema["$defs"]
    definitions.pop("MethodSection", None)
    properties["method"] = {
        "description": Recipe.model_fields["method"].description,
        "type": "object",
        "required": ["name"],
        "oneOf": [_method(name, methods[name]) for name in sorted(methods)],
    }
    properties["backbone"] = {"description": Recipe.model_fields["backbone"].description, "anyOf": _backbone()}
    properties["views"] = {
        "description": Recipe.model_fields["views"].description,
        "type": "object",
        "additionalProperties": _view(),
    }
    _add_evaluators(definitions, evaluators)
    for name, model in SECTIONS.items():
        if model.__name__ in definitions:  # editors show what a section is for, not how its class is made
            definitions[model.__name__]["description"] = Recipe.model_fields[name].description
    return schema


def _add_evaluators(definitions: dict[str, Any], evaluators: "Mapping[str, Evaluator] | None") -> None:
    """Gives ``eval.tasks`` and its short forms the settings that evaluators declare."""
    if evaluators is None:
        from ..evaluation import registry

        evaluators = registry.evaluators()
    settings = {}
    for name, evaluator in evaluators.items():
        schema = evaluator.settings_class.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(schema.pop("$defs", {}))
        settings[name] = {**schema, "title": name, "description": evaluator.summary()}
    fields = definitions["EvalSection"]["properties"]
    tasks = {name: {"anyOf": [schema, {"type": ["boolean", "null"]}]} for name, schema in settings.items()}
    meaning = fields["tasks"]["description"]
    fields["tasks"] = {"description": meaning, "type": "object", "additionalProperties": False, "properties": tasks}
    if "finetune" in settings:
        fields["finetune"]["anyOf"] = [{"type": "boolean"}, settings["finetune"]]
    if "zero-shot" in settings:
        fields["zero_shot"] = {**fields["zero_shot"], **_of(settings["zero-shot"], "tasks")}


def _of(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in schema["properties"][name].items() if key != "description"}


def _method(name: str, method: "type[Method]") -> dict[str, Any]:
    from ..methods.registry import method_fields

    properties: dict[str, dict[str, Any]] = {
        "name": {"const": name, "description": (method.__doc__ or name).strip().splitlines()[0]}
    }
    for field in method_fields(method):
        properties[field.name] = {**_type_schema(field.type), "description": field.meaning, "default": field.default}
    for old, new in method.config_class.renamed_settings.items():
        properties[old] = {**properties[new], "description": f"Called {new} now.", "deprecated": True}
    return {
        "title": name,
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": properties,
    }


def _type_schema(kind: Any) -> dict[str, Any]:
    try:
        return TypeAdapter(kind).json_schema()
    except (PydanticUserError, PydanticUndefinedAnnotation):
        return {}  # a type that pydantic does not know: anything goes, the configuration class checks it


def _backbone() -> list[dict[str, Any]]:
    adaptation = {
        "min_matched": {
            **_type_schema(ADAPTATION["min_matched"]),
            "description": "Share of tensors that must be found.",
        },
        "locked": {**_type_schema(ADAPTATION["locked"]), "description": "Towers that are not trained."},
        "trainable_layers": {
            **_type_schema(ADAPTATION["trainable_layers"]),
            "description": "Train the last so many layers, and what comes after them.",
        },
        "freeze_batch_norm": {
            **_type_schema(ADAPTATION["freeze_batch_norm"]),
            "description": "Normalize by the released running statistics, in training too.",
        },
        "lora": {
            "type": ["object", "null"],
            "description": "Train low-rank adapters instead of the weights.",
            "additionalProperties": False,
            "properties": {name: _type_schema(kind) for name, kind in LORA.items()},
        },
    }
    return [
        {"type": "string", "pattern": "^timm/.+", "description": "A timm architecture with random weights."},
        {
            "type": "object",
            "description": "Weights to start from.",
            "required": ["pretrained"],
            "additionalProperties": False,
            "properties": {
                "pretrained": {"type": "string", "description": "A model on the Hub, or a folder."},
                "revision": {"type": ["string", "null"], "description": "Branch, tag or commit on the Hub."},
                **adaptation,
            },
        },
        {
            "type": "object",
            "description": "A transformers configuration with random weights; its own fields stand beside model_type.",
            "required": ["model_type"],
            "properties": {
                "model_type": {"type": "string", "description": "As in a config.json: vit, resnet, dinov2, clip."},
                **adaptation,
            },
        },
    ]


def _view() -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _type_schema(kind) for name, kind in VIEW_FIELDS.items()},
    }
