"""Released weights for an encoder: whole models, the image tower of a two-tower model, or each tower from another model."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from ..errors import ArgumentError
from .channels import COLORS, adapted
from .config import Backbone, Weights
from .families import family_of
from .finite_weights import not_finite
from .pretrained import missing_keys, read_pretrained
from .two_towers import is_two_towers

_NAMED = 3  # names of tensors in a sentence, at most


@dataclass(frozen=True)
class Part:
    """The released weights of an encoder, or of one of its towers.

    Attributes:
        tower: ``vision`` or ``text``; empty for the encoder as a whole.
        name: Folder or name on the Hub.
        revision: The commit that was loaded from the Hub, else the branch, tag or commit that was asked for.
        tensors: How many of the encoder's tensors were loaded.
        of_tensors: How many it has.
    """

    tower: str
    name: str
    revision: str | None
    tensors: int
    of_tensors: int


@dataclass(frozen=True)
class Loaded:
    """What was loaded into an encoder.

    Args:
        names: Tensors of the encoder's ``state_dict`` that were loaded.
        sentence: How many they are, and which ones start at random.
        sources: Where the weights come from, by tower: ``vision`` and ``text``; by ``""`` for the encoder as a whole.
        parts: The same with what was loaded of each.
    """

    names: frozenset[str]
    sentence: str
    sources: dict[str, str]
    parts: tuple[Part, ...] = ()

    def has_weights(self, tower: str) -> bool:
        """Whether a tower was loaded, alone or with the whole encoder."""
        return tower in self.sources or "" in self.sources


def load_weights(encoder: PreTrainedModel, backbone: Backbone | str | Mapping[str, Any]) -> Loaded | None:
    """Loads the weights of ``{pretrained: ...}``, and of the towers of a pair, into the encoder.

    A model with two towers is loaded whole, projections and temperature included; into an encoder of images alone goes its image
    tower. Tensors that the weights lack, or have in another shape, stay as they are; of what is loaded, their share may be no
    larger than ``1 - min_matched`` (of each tower of a pair), a mask token not counted. A pair's projections are always new.

    Returns:
        What was loaded; None when the backbone starts from random weights.

    Raises:
        ArgumentError: The weights cannot be loaded, or too many tensors of the encoder are not among them.
    """
    backbone = Backbone.read(backbone)
    least = backbone.min_matched or 1.0
    names: frozenset[str] = frozenset()
    sentences, sources, parts = [], {}, []
    for tower, weights in backbone.weights.items():
        if tower and not is_two_towers(encoder):
            continue
        prefix = f"{tower}_model." if tower else ""
        target = getattr(encoder, prefix[:-1]) if tower else encoder
        found, sentence, part = _load(target, weights, tower, least)
        names |= {f"{prefix}{name}" for name in found}
        sentences.append(sentence)
        parts.append(part)
        sources[tower] = weights.name
    return Loaded(names, "; ".join(sentences), sources, tuple(parts)) if sources else None


def _load(target: PreTrainedModel, source: Weights, tower: str, least: float) -> tuple[frozenset[str], str, Part]:
    """Loads one model, or a tower of it, into the encoder or a tower of that; returns the loaded names, a sentence and the part."""
    name, what = source.name, f"{tower} tower" if tower else "encoder"
    weights, commit = _read(source, None if is_two_towers(target) else tower or "vision")
    own = {key: value for key, value in target.state_dict().items() if key in weights}
    fitted = {key: made for key, value in own.items() if (made := adapted(weights[key], value)) is not None}
    matched, missing = fill(target, weights | fitted, name, source.argument, least, what)
    part = Part(tower, name, commit or source.revision, len(matched), len(target.state_dict()))
    told = _sentence(len(matched), part.of_tensors, what, name, missing)
    for key, made in fitted.items():
        told += f"; {key} was made one for {made.shape[1]} channels of that for {COLORS}"
    return matched, told, part


def fill(
    target: PreTrainedModel,
    weights: Mapping[str, Tensor],
    name: str,
    argument: str,
    least: float = 1.0,
    what: str = "encoder",
) -> tuple[frozenset[str], dict[str, str]]:
    """Copies tensors into a model, and leaves those that are missing, or have another shape, as they are.

    Args:
        target: The model.
        weights: Tensors by the names of its modules; others are left out.
        name: Where they come from, for messages.
        argument: Which argument says so.
        least: Share of the model's tensors that must be among them; a mask token is not counted.
        what: What the model is, for messages.

    Returns:
        Names of the tensors that were copied, and of those that were not, each with its shapes where there are two.

    Raises:
        ArgumentError: They are too few, or one is not finite.
    """
    wanted = target.state_dict()
    absent = {key: "" for key in wanted if key not in weights}
    reshaped = {
        key: f" ({tuple(weights[key].shape)} there, {tuple(value.shape)} here)"
        for key, value in wanted.items()
        if key in weights and weights[key].shape != value.shape
    }
    matched = frozenset(wanted.keys() - absent.keys() - reshaped.keys())
    missing = {**reshaped, **absent}
    # A mask token is a method's own affair: weights that were trained without masks have none. Nor have they a normalization after
    # the mean, which starts as no change.
    optional = "pooler." if family_of(target).keeps_pooler else None
    needed = [key for key in missing if not key.endswith("mask_token") and not (optional and key.startswith(optional))]
    if needed and len(wanted) - len(needed) < least * len(wanted):
        first = needed[0]
        lacking = f"lacks {len(absent)} of the {what}'s {len(wanted)} tensors" if absent else ""
        other = f"has {len(reshaped)} of the {what}'s {len(wanted)} tensors in another shape" if reshaped else ""
        raise ArgumentError(
            f"{argument}: {name!r} {' and '.join(filter(None, (other, lacking)))}, among them {first!r}"
            f"{missing[first]}; what is missing starts at random when min_matched allows it: at most "
            f"{int(len(matched) / len(wanted) * 1000) / 1000} here, and it is {least:g}",
            argument,
        )
    if wrong := not_finite({key: weights[key] for key in matched if key in dict(target.named_parameters())}):
        raise ArgumentError(f"{argument}: {name!r} cannot be loaded: {wrong}", argument)
    with torch.no_grad():
        for key in matched:
            wanted[key].copy_(weights[key])
    return matched, missing


def _read(weights: Weights, tower: str | None) -> tuple[dict[str, Tensor], str | None]:
    """The tensors that a model, or one of its two towers, has stored weights for, by the names of transformers' modules; and its commit."""
    # Tensors of another shape than the configuration says are missing too, and are said by us.
    options = {"output_loading_info": True, "ignore_mismatched_sizes": True}
    source, info = read_pretrained(AutoModel, weights.name, weights.argument, weights.revision, **options)
    drawn = missing_keys(info)  # transformers fills up what the files do not have with random numbers
    tensors = tensors_of(source, tower, drawn)
    return tensors, getattr(source.config, "_commit_hash", None)


def tensors_of(source: PreTrainedModel, tower: str | None = None, but: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors of a model, or of one of its towers, in the form in which it is trained here.

    Args:
        source: The model, which is brought into that form.
        tower: ``vision`` or ``text``: where the model has one, its tensors alone, by the names of its own modules.
        but: Names of tensors that are left out.
    """
    family_of(source).align(source)
    tensors = {key: value for key, value in source.state_dict().items() if key not in but}
    prefix = f"{tower}_model."
    if tower and hasattr(source, prefix[:-1]):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return tensors


def _sentence(matched: int, wanted: int, what: str, name: str, missing: dict[str, str]) -> str:
    text = f"{matched} of {wanted} {what} tensors loaded from {name}"
    if not missing:
        return text
    named = ", ".join(f"{key}{shapes}" for key, shapes in list(missing.items())[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return f"{text}; at random: {named}{more}"
