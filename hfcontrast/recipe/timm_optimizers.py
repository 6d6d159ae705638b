"""timm's optimizers in a recipe, ``optim.name: timm/NAME``: which there are, the settings of each, and the call that builds one.

timm is imported where a recipe names one, and not before.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from .wording import did_you_mean

if TYPE_CHECKING:
    from .optimization import OptimSection

PREFIX = "timm/"
FIELDS = ("momentum", "betas", "eps")  # settings of `optim` that timm's optimizers share
_HANDLED = {"self", "params", "lr", "weight_decay"}


class Accepted(NamedTuple):
    """What an optimizer takes beside learning rate and weight decay: fields of ``optim``, and further options; with defaults."""

    fields: dict[str, Any]
    options: dict[str, Any]


def is_timm(name: str) -> bool:
    """Whether ``optim.name`` names one of timm's."""
    return name.startswith(PREFIX)


def accepted(name: str) -> Accepted:
    """The settings of an optimizer, by its name in a recipe.

    Raises:
        ValueError: timm has none of this name, or it cannot be used here.
    """
    from timm.optim import get_optimizer_class, get_optimizer_info, list_optimizers

    own = name.removeprefix(PREFIX)
    if own not in (known := list_optimizers()):
        near = did_you_mean(name, [f"{PREFIX}{item}" for item in known], otherwise="")
        raise ValueError(f"timm has no optimizer {own!r}{near or '; timm.optim.list_optimizers() names them'}")
    info = get_optimizer_info(own)
    if info.second_order:
        raise ValueError(f"{name} takes second derivatives, which a training here does not compute; choose another")
    try:
        kind: Any = get_optimizer_class(info, bind_defaults=False)  # type: ignore[arg-type]  # a description is taken too
        signature = inspect.signature(kind.__init__)
    except Exception as error:  # any kind: a package or a device that it needs may be missing
        raise ValueError(f"{name} cannot be used here: {_in_short(error)}") from error
    plain = {p.name for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    settings = {key: signature.parameters[key].default for key in plain - _HANDLED} | (info.defaults or {})
    if info.has_momentum:
        settings["momentum"] = 0.9  # what timm's create_optimizer_v2 gives to all that have one
    fields = {key: settings.pop(key) for key in FIELDS if key in settings and _fits(key, settings[key])}
    return Accepted(fields, settings)


def keywords(settings: "OptimSection") -> dict[str, Any]:
    """The arguments of ``timm.optim.create_optimizer_v2`` for a recipe's settings, beside parameters and learning rate."""
    own = {name: getattr(settings, name) for name in accepted(settings.name).fields}
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.options.items()}
    return {"opt": settings.name.removeprefix(PREFIX), "weight_decay": settings.weight_decay, **own, **options}


def problems(settings: "OptimSection", given: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with a recipe's settings for one of timm's optimizers: (field, sentence).

    Args:
        settings: The section ``optim``, with ``timm/NAME`` as its name.
        given: The settings that the user has set.
    """
    try:
        known = accepted(settings.name)
    except ValueError as error:
        yield "name", str(error)
        return
    wrong = False
    for field in (*FIELDS, "trust_coefficient"):
        if field in given and field not in known.fields:
            wrong = True
            hint = (
                f"; set it in optim.options, with timm's default {known.options[field]}"
                if field in known.options
                else ""
            )
            yield field, f"{settings.name} does not take it{hint or ': leave it out'}"
    for name in settings.options:
        if name in known.fields or name in _HANDLED:
            wrong = True
            yield "options", f"{name!r} has a key of its own: set optim.{name}"
        elif name not in known.options:
            wrong = True
            near = did_you_mean(name, known.options) if known.options else ""
            yield "options", f"{settings.name} has no setting {name!r}{near}"
    own = {name: value for name, value in known.fields.items() if name not in given}
    if not wrong and (text := _refused(settings, own)):
        yield "options" if settings.options else "name", f"timm refuses these settings of {settings.name}: {text}"


def _fits(field: str, value: Any) -> bool:
    """Whether a default could stand in the field of this name; where not (three betas, none), the setting is an option."""
    if field == "betas":
        return isinstance(value, tuple) and len(value) == 2 and all(isinstance(beta, float) for beta in value)
    return isinstance(value, float)


def _refused(settings: "OptimSection", fields: dict[str, Any]) -> str:
    """timm's own objection, found by building the optimizer of a tiny parameter; empty where it has none."""
    from timm.optim import create_optimizer_v2
    from torch import nn, zeros

    try:
        create_optimizer_v2([nn.Parameter(zeros(2, 2))], lr=settings.lr, **keywords(settings) | fields)
    except Exception as error:  # any kind: the recipe cannot be trained with it
        return _in_short(error)
    return ""


def _in_short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
