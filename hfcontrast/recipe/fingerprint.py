"""A short hash of the settings that must be equal to resume a run."""

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import PluginError
from ..view import View
from .renamed import with_old_names

if TYPE_CHECKING:
    from .recipe import Recipe

# What may change between the two halves of a resumed run.
_FREE = {
    "data": {"workers", "cache"},
    "train": {"output", "log_every", "checkpoint_every", "keep_checkpoints", "resume", "device"},
}
_NOW_FREE = {"data": {"max_unreadable"}}  # the same since later: counts as its default, so that older hashes stay
# Settings that older recipes do not have: left out while they have their default, so that older hashes stay.
_LATER = {
    "data": {"image_key", "max_pixels", "open_addresses", "window", "channels", "cache_size"},
    "optim": {"no_decay", "layer_decay", "patch_embed_lr_mult", "options", "freeze_encoder_steps", "warmup_share"},
    "train": {"minutes", "cache_features"},
}
LENGTH = (
    "epochs",
    "steps",
    "minutes",
)  # of ``train``: what may change between two starts, as schedules are then stretched
_LATER_OF_VIEWS = (
    "crop_of",
    "repeat_after",
    "rotate",
    "sobel",
    "noise",
    "noise_std",
    "cutout",
    "cutout_size",
    "unaugmented",
)


class Fingerprint(NamedTuple):
    """What must be equal to continue a run: a short hash of it, and the settings themselves, by section."""

    hash: str
    settings: dict[str, Any]


def fingerprint_of(recipe: "Recipe") -> Fingerprint:
    """What must be equal to continue a run: all but how it is reported and which machine computes it."""
    sections = ("method", "backbone", "data", "text", "views", "optim", "train")
    settings = {name: values for name, values in recipe.to_dict().items() if name in sections}
    if recipe.early_stopping.every is not None:
        settings["early_stopping"] = recipe.early_stopping.model_dump(mode="json")
    for name, free in _FREE.items():
        fields = type(getattr(recipe, name)).model_fields
        fixed = {key: fields[key].default for key in _NOW_FREE.get(name, ())}
        settings[name] = {key: value for key, value in settings[name].items() if key not in free} | fixed
    for name, later in _LATER.items():
        for key in later:
            if getattr(recipe, name).__dict__[key] == type(getattr(recipe, name)).model_fields[key].default:
                settings[name].pop(key)
    settings["views"] = {name: _without_later(view) for name, view in settings["views"].items()}
    older = with_old_names({**settings, "method": _first_names(settings["method"])})
    text = json.dumps(older, sort_keys=True)
    return Fingerprint(hashlib.sha256(text.encode()).hexdigest()[:16], settings)


def same_but_length(old: "Recipe", new: "Recipe") -> bool:
    """Whether a run by one recipe can be resumed by another: all that must be equal is, but for the length of the training."""
    as_long = old.model_copy(deep=True)
    for name in LENGTH:
        setattr(as_long.train, name, getattr(new.train, name))
    return fingerprint_of(as_long).hash == fingerprint_of(new).hash


def _without_later(view: dict[str, Any]) -> dict[str, Any]:
    """The settings of a view without those that older recipes do not have, where they change nothing."""
    defaults = {name: json.loads(json.dumps(getattr(View, name))) for name in _LATER_OF_VIEWS}
    return {name: value for name, value in view.items() if name not in defaults or value != defaults[name]}


def _first_names(method: dict[str, Any]) -> dict[str, Any]:
    """A method's settings under the names that they had first, so that older hashes stay; without those that are places."""
    from ..methods.registry import first_names, get_method

    try:
        config_class = get_method(method["name"]).config_class
    except PluginError:  # a recipe that has been read by its types only can name any method
        return method
    first = first_names(config_class, method)
    return {first[name]: value for name, value in method.items() if name not in config_class.places}
