"""Checking a recipe's backbone: the architecture, the fields of its configuration, and how released weights are trained."""

import difflib
import os
import re
import sys
from collections.abc import Collection
from dataclasses import fields
from typing import Annotated, Any, Literal, cast, get_type_hints

from pydantic import Field

from ..encoders.config import ADAPTATION as _ADAPTATION
from ..encoders.config import OWN, PAIR, TIMM, TOWERS, WEIGHTS, Backbone, LoRA, Tower, has_own_towers, known_fields
from ..encoders.config_names import fields_in_source, model_types_in_source
from ..encoders.timm_names import architectures, is_architecture
from ..paths import local_path
from .checking import EXAMPLES, Problem, fits
from .wording import did_you_mean, mismatch, nearest

ADAPTATION = {name: get_type_hints(Backbone, include_extras=True)[name] for name in _ADAPTATION} | {"lora": dict | None}
_NOT_ONE_OF = re.compile(r"(\w+)=.* is not one of ([\w,]+)")  # as transformers' configurations say it
LORA = get_type_hints(LoRA, include_extras=True)


def check_backbone(backbone: str | dict[str, Any]) -> list[Problem]:
    """Checks the names and types in a backbone as it is written, as far as they are known without its weights."""
    if isinstance(backbone, str):
        return _check_name(backbone, ("backbone",))
    problems = _check_types(backbone, ADAPTATION, ("backbone",))
    if isinstance(backbone.get("lora"), dict):
        problems += [
            Problem(("backbone", "lora", name), f"unknown key{did_you_mean(name, LORA)}")
            for name in backbone["lora"]
            if name not in LORA
        ]
        problems += _check_types(backbone["lora"], LORA, ("backbone", "lora"))
    rest = {name: value for name, value in backbone.items() if name not in ADAPTATION}
    if isinstance(rest.get("pretrained"), str) and "model_type" in rest:
        text = "weights bring their architecture with them, so that nothing else can be given beside pretrained: give the weights as a whole"
        return [Problem(("backbone", "model_type"), f"{text}, 'backbone={{pretrained: {rest['pretrained']}}}'")]
    problems += _check_mapping(rest, ("backbone",), (*WEIGHTS, *ADAPTATION) if "pretrained" in rest else ())
    return problems or _contradictions(backbone)


def _check_types(values: dict[str, Any], kinds: dict[str, Any], path: tuple[str, ...]) -> list[Problem]:
    return [
        Problem((*path, name), mismatch(values[name], kind))
        for name, kind in kinds.items()
        if name in values and not fits(kind, values[name])[0]
    ]


def _contradictions(backbone: dict[str, Any]) -> list[Problem]:
    """What is fine alone, but not together."""
    parsed = Backbone.read(backbone)
    lora, locked = backbone.get("lora"), parsed.locked or []
    loaded = {tower for tower in TOWERS if parsed.weights_of(cast(Tower, tower))}
    problems = []
    for name in _ADAPTATION:
        if backbone.get(name) and not loaded:
            problems.append(
                Problem(("backbone", name), "there are no weights to start from: name them with pretrained")
            )
    if problems:
        return problems
    if parsed.trainable_layers and lora:
        text = "trainable_layers and lora both say what of the encoder is trained: keep one of them"
        problems.append(Problem(("backbone", "trainable_layers"), text))
    if len(set(locked)) > 1:
        text = "with both towers locked, nothing but projections would be trained: lock one"
        problems.append(Problem(("backbone", "locked"), text))
    chosen = (lora or {}).get("towers") or []
    problems += [
        Problem(("backbone", *path), f"the {tower} tower has random weights: name weights for it with pretrained")
        for path, names in ((("locked",), locked), (("lora", "towers"), chosen))
        for tower in names
        if tower not in loaded
    ]
    if both := sorted(set(chosen) & set(locked)):
        text = f"backbone.locked and backbone.lora.towers both name {both[0]}: a locked tower is not changed, keep one of them"
        problems.append(Problem(("backbone", "locked"), text))
    return problems


def _check_name(backbone: str, path: tuple[str, ...]) -> list[Problem]:
    if backbone.startswith("timm/") and path[-1] != "text":
        return _check_timm(backbone.removeprefix("timm/"), path)
    expected = "{model_type: ...}" if path[-1] == "text" else "timm/ARCHITECTURE or a mapping"
    hint = f"to start from its weights write {{pretrained: {backbone}}}"
    if path[-1] != "text" and (meant := _meant_of_timm(backbone)):
        hint = f"did you mean 'timm/{meant}'?"
    return [Problem(path, f"expected {expected}, got {backbone!r}; {hint}")]


def _meant_of_timm(backbone: str) -> str | None:
    """The architecture of timm that was meant without ``timm/``, or with that mistyped; None for a name on the Hub or a folder."""
    owner, slash, name = backbone.rpartition("/")
    names = set(architectures())
    if slash and not difflib.get_close_matches(owner.lower(), ["timm"], cutoff=0.7):
        return None
    if name.partition(".")[0] in names:
        return name
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.6 if slash else 0.85)), None)


def _check_mapping(backbone: dict[str, Any], path: tuple[str, ...], known: Collection[str]) -> list[Problem]:
    """Checks an architecture with its fields, or where weights come from; with ``known``, what may stand beside them."""
    if "pretrained" in backbone:
        return _check_pretrained(backbone, path, known or WEIGHTS)
    if not isinstance(backbone.get("model_type"), str):
        for name in ("pretrained", "model_type"):
            if (near := nearest(name, backbone)) and near != name:
                return [Problem((*path, near), f"unknown key; did you mean '{name}'?")]
        path = (*path, "model_type") if "model_type" in backbone else path
        return [Problem(path, f"a mapping needs model_type or pretrained, e.g. {EXAMPLES['backbone']}")]
    if backbone["model_type"] == PAIR:
        return _check_pair(backbone, path)
    return _check_config(backbone, path)


def _check_timm(architecture: str, path: tuple[str, ...]) -> list[Problem]:
    if not architecture:
        return [Problem(path, "it names no architecture of timm: write one, such as timm/resnet50")]
    if is_architecture(architecture):
        return []
    hint = did_you_mean(architecture, architectures(), otherwise="; timm.list_models() gives the names")
    return [Problem(path, f"timm has no architecture {architecture!r}{hint}")]


def _no_folder(value: Any) -> bool:
    return value.startswith((".", "/", "~")) and not os.path.isdir(local_path(value))


def _check_pretrained(backbone: dict[str, Any], path: tuple[str, ...], known: Collection[str]) -> list[Problem]:
    problems = []
    for name, value in backbone.items():
        if name not in WEIGHTS:
            problems.append(Problem((*path, name), f"unknown key{did_you_mean(name, known)}"))
        elif not isinstance(value, str) and not (name == "revision" and value is None):
            problems.append(Problem((*path, name), mismatch(value, str)))
        elif name == "pretrained" and not str(value).strip():
            problems.append(Problem((*path, name), "it is empty: expected a folder or a name on the Hub"))
        elif name == "pretrained" and _no_folder(value):
            problems.append(Problem((*path, name), f"there is no folder {value!r}"))
    return problems


def _check_pair(backbone: dict[str, Any], path: tuple[str, ...]) -> list[Problem]:
    known = ("vision", "text", "projection_dim", "logit_scale_init_value")
    problems = [
        Problem((*path, name), f"unknown key{did_you_mean(name, known)}")
        for name in backbone
        if name not in (*known, "model_type")
    ]
    kinds = {"projection_dim": Annotated[int, Field(ge=1)], "logit_scale_init_value": float}
    problems += _check_types(backbone, kinds, path)
    for name in ("vision", "text"):
        tower, inner = backbone.get(name), (*path, name)
        if isinstance(tower, str):
            problems += _check_name(tower, inner)
        elif not isinstance(tower, dict):
            problems.append(
                Problem(inner, "missing; give a backbone of its own, e.g. {pretrained: NAME} or {model_type: ...}")
            )
        elif tower.get("model_type") == PAIR:
            problems.append(Problem((*inner, "model_type"), "a tower cannot be a pair of towers itself"))
        else:
            problems += _check_mapping(tower, inner, ())
    return problems


def check_backbone_names(backbone: str | dict[str, Any]) -> list[Problem]:
    """As :func:`check_backbone`, but for an architecture of transformers its keys only: without importing torch."""
    if isinstance(backbone, dict) and isinstance(backbone.get("model_type"), str) and "pretrained" not in backbone:
        own = {name: value for name, value in backbone.items() if name not in ADAPTATION}
        return _mistyped(own, ("backbone",)) if own["model_type"] != PAIR else []
    return check_backbone(backbone)


def _mistyped(backbone: dict[str, Any], path: tuple[str, ...]) -> list[Problem]:
    """An unknown model_type, or unknown keys beside one, as far as transformers' source says so: without importing torch."""
    from ..methods.contract.source import inherited_fields

    if (
        "transformers.configuration_utils" in sys.modules
    ):  # then itself is asked, and what others have registered with it counts
        return []
    types = model_types_in_source()
    if types is not None and backbone["model_type"] not in types.union(OWN):
        return [_unknown_type(backbone["model_type"], types.union(OWN), path)]
    names = fields_in_source(backbone["model_type"])
    if names is None:
        return []
    return [
        Problem((*path, key), f"unknown key{did_you_mean(key, names)}")
        for key in backbone
        if key not in names | inherited_fields() | {"model_type"}
    ]


def _unknown_type(name: str, known: Collection[str], path: tuple[str, ...]) -> Problem:
    hint = did_you_mean(name, known, otherwise="; it is the model_type of a config.json, e.g. vit")
    return Problem((*path, "model_type"), f"transformers has no model_type {name!r}{hint}")


def _check_config(backbone: dict[str, Any], path: tuple[str, ...]) -> list[Problem]:
    if problems := _mistyped(backbone, path):
        return problems
    from transformers import CONFIG_MAPPING, PreTrainedConfig
    from transformers.utils import logging

    if backbone["model_type"] in OWN:
        from ..encoders import own_architectures  # noqa: F401 (so that transformers knows them)
    name, given = backbone["model_type"], {key: value for key, value in backbone.items() if key != "model_type"}
    if name not in CONFIG_MAPPING or name.startswith("hfcontrast_"):
        return [_unknown_type(name, CONFIG_MAPPING.keys(), path)]
    config_class = CONFIG_MAPPING[name]
    parts = {path: (config_class, given)}
    if has_own_towers(config_class):
        for tower in ("vision_config", "text_config"):
            if isinstance(given.get(tower), dict):
                parts[(*path, tower)] = (config_class.sub_configs[tower], given[tower])
    common = {field.name for field in fields(PreTrainedConfig)}
    problems = [
        Problem((*where, key), f"unknown key{did_you_mean(key, known_fields(part) - common)}")
        for where, (part, values) in parts.items()
        for key in values
        if key not in known_fields(part) and not (key == "model_type" and values[key] == part.model_type)
    ]
    if not problems and name == TIMM:
        architecture = (*path, "architecture")
        if given.get("architecture") is None:
            return [Problem(architecture, "missing; give an architecture of timm, e.g. resnet50")]
        problems = _check_timm(str(given["architecture"]), architecture)
    if problems:
        return problems
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns of token ids beyond the vocabulary, and the tokenizer has not yet said either
    try:
        for where, (part, values) in reversed(
            parts.items()
        ):  # the towers first: the whole would not say which of them it is
            try:
                part(**values)
            except Exception as error:  # every architecture checks its configuration in its own way
                found = re.search(r"field '(\w+)'", str(error)) or _NOT_ONE_OF.fullmatch(str(error.__cause__ or error))
                where = (*where, found[1]) if found and found[1] in values else where
                field = where[-1] if where not in parts else ""
                return [Problem(where, _refused(part, field, values.get(field), error))]
    finally:
        logging.set_verbosity(verbosity)
    return []


def _refused(config_class: Any, field: str, value: Any, error: Exception) -> str:
    """What a configuration class says of a field, in the words of recipes' errors where the type is wrong."""
    text = str(error.__cause__ or error)
    if chosen := _NOT_ONE_OF.fullmatch(text):
        return mismatch(value, Literal[*chosen[2].split(",")])
    if field not in config_class.__dataclass_fields__:
        return text
    kind = config_class.__dataclass_fields__[field].type
    return text if isinstance(kind, str) or fits(kind, value)[0] else mismatch(value, kind)
