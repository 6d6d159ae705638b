"""Calls of a method's hooks: an author's mistake in one becomes an error that names the method and the hook."""

import traceback
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...errors import PluginError
from .arguments import named_by
from .by_setting import BySetting
from .declaration import called
from .old_names import overridden, overrides
from .progress import Phase

if TYPE_CHECKING:
    from ..base import Method
    from .config import MethodConfig

_SIGNATURES = {
    "before_step": "progress",
    "after_backward": "progress",
    "frozen": "",
    "after_step": "outputs, progress",
    "phases": "steps_per_epoch, batch_size",
    "fewest_images": "options",
    "training_phases": "steps_per_epoch, batch_size",
    "compute_data_statistics": "images, options",
    "visualize": "...",
}
_REMINDERS = {
    "after_step": "; outputs is a list, one MethodOutput a micro-batch, with the state that objective() gave it, or None",
}
_MISTAKES = (AttributeError, TypeError, LookupError)


def call_hook(owner: "Method | type[Method] | MethodConfig", name: str, *values: Any, **batch: Any) -> Any:
    """Calls a hook and returns its result.

    Args:
        owner: The method, its class for a hook of the class, or its configuration.
        name: The hook.
        values: Its arguments.
        batch: Its keyword arguments.

    Raises:
        PluginError: The hook raised AttributeError, TypeError, KeyError or IndexError.
    """
    try:
        return getattr(owner, name)(*values, **batch)
    except _MISTAKES as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        place = f" (line {frames[0].lineno} of {frames[0].filename})" if frames else ""
        raise PluginError(
            f"{_where(owner)}: {name}({_SIGNATURES[name]}) raised {type(error).__name__}: {error}{place}"
            f"{_REMINDERS.get(name, '')}"
        ) from error


def phases_of(method: "Method", steps_per_epoch: int, batch_size: int) -> list[Phase]:
    """What ``training_phases`` of the method's configuration returns.

    Raises:
        PluginError: It fails, or returns anything but a list of ``hfcontrast.Phase``.
    """
    owner, name = (method, "phases") if _has_own_phases(type(method)) else (method.config, "training_phases")
    found = call_hook(owner, name, steps_per_epoch, batch_size)
    if not isinstance(found, list | tuple) or not all(isinstance(phase, Phase) for phase in found):
        raise PluginError(_returned(owner, name, found, "a list of instances of hfcontrast.Phase, [] for none"))
    return list(found)


def _has_own_phases(cls: "type[Method]") -> bool:
    """Whether a class defines ``phases``, as in version 0.1, and no class derived from it brings a configuration with new ones."""
    if not overrides(cls, "phases"):
        return False
    definer = next(kind for kind in cls.__mro__ if "phases" in vars(kind))
    before = getattr(definer, "config_class", cls.config_class)
    return cls.config_class.training_phases is before.training_phases


def fewest_images_of(method_class: "type[Method]", options: dict[str, Any]) -> tuple[int, int]:
    """``min_images`` and ``min_images_normalized`` for a recipe.

    Args:
        method_class: The method.
        options: Its settings in the recipe.

    Raises:
        PluginError: ``fewest_images``, which a plugin's class may have from version 0.1, fails or returns no two numbers.
    """
    if overridden(method_class, "fewest_images") is None:
        return declared_images(method_class, options)
    found = call_hook(method_class, "fewest_images", options)
    pair = isinstance(found, list | tuple) and len(found) == 2 and all(isinstance(count, int) for count in found)
    if not pair:
        raise PluginError(_returned(method_class, "fewest_images", found, "(min_images, min_images_normalized)"))
    return tuple(found)


def declared_images(method_class: "type[Method]", options: dict[str, Any]) -> tuple[int, int]:
    """What the attributes ``min_images`` and ``min_images_normalized`` are with these settings."""
    least, normalized = (
        value.resolve(method_class.config_class, options) if isinstance(value, BySetting) else value
        for value in (method_class.min_images, method_class.min_images_normalized)
    )
    return least, normalized


def data_statistics_of(
    method_class: "type[Method]", images: Tensor, options: dict[str, Any], names: list[str]
) -> dict[str, Any]:
    """What ``compute_data_statistics`` returns for the missing settings.

    Raises:
        PluginError: It fails, omits one of them, or returns values that JSON does not have.
    """
    found = call_hook(method_class, "compute_data_statistics", images, options)
    if not isinstance(found, dict) or not set(names) <= found.keys():
        raise PluginError(
            _returned(method_class, "compute_data_statistics", found, f"a dict with {', '.join(map(repr, names))}")
        )
    for name in names:
        if not _is_plain(found[name]):
            kind = type(found[name]).__name__
            raise PluginError(
                f"{_where(method_class)}: compute_data_statistics() returned {kind} for {name!r}, expected numbers, texts or lists of these, as "
                "JSON has them (tensor.tolist())"
            )
    return {name: found[name] for name in names}


def visualized(method: "Method", batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What ``visualize`` returns for a batch.

    Raises:
        PluginError: It fails, or returns anything but images by their headings, one for each sample.
    """
    columns = call_hook(method, "visualize", **named_by(method.visualize, batch))
    if not isinstance(columns, dict):
        raise PluginError(_returned(method, "visualize", columns, "a dict of images by their headings, {} for none"))
    for name, images in columns.items():
        fits = isinstance(images, Tensor) and images.ndim in (4, 5) and images.shape[-3] == 3
        if not fits or len(images) != len(batch["index"]):
            kind = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
            raise PluginError(
                f"{_where(method)}: visualize() returned {kind} for {name!r}, expected images (B, 3, H, W) or (B, P, 3, H, W) with "
                f"B = {len(batch['index'])}"
            )
    return columns


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return value is None or isinstance(value, bool | int | float | str)


def _returned(owner: "Method | type[Method] | MethodConfig", name: str, found: Any, expected: str) -> str:
    kind = "None" if found is None else f"{type(found).__name__} {found!r:.60}"
    return f"{_where(owner)}: {name}({_SIGNATURES[name]}) returned {kind}, expected {expected}"


def _where(owner: "Method | type[Method] | MethodConfig") -> str:
    cls = owner if isinstance(owner, type) else type(owner)
    return f"configuration {cls.__module__}.{cls.__qualname__}" if hasattr(cls, "training_phases") else called(cls)
