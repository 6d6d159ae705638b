"""Released encoders that a published one has learned from: facts, sentences, and the license that they pass on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from ..encoders.released import ReleasedEncoder
from ..methods.base import Method
from ..paths import local_path
from ..recipe.published import is_local, origin_on_hub, public_name
from ..training.starting_point import base_models_of
from .told import told_weights


def teachers(method: Method) -> list[dict[str, Any]]:
    """The released encoders that the published one has learned from, as JSON.

    Args:
        method: Names them by :meth:`~hfcontrast.Method.learned_from`.

    Returns:
        For each its ``name``, ``on_hub``, ``revision``, ``base_models`` and the ``license`` that its card states, null where that
        is not known.
    """
    return [_described(encoder) for encoder in method.learned_from() if encoder.released]


def _described(encoder: ReleasedEncoder) -> dict[str, Any]:
    place = encoder.name
    origin = origin_on_hub(place)
    on_hub = origin is not None or not is_local(place)
    name, folder = public_name(place), Path(local_path(place))
    return {
        "name": name,
        "on_hub": on_hub,
        "revision": origin[1] if origin is not None else encoder.revision if on_hub else None,
        "base_models": [name] if on_hub else base_models_of(folder),
        "license": _license(folder / "README.md" if is_local(place) or origin is not None else place),
    }


def _license(card: str | Path) -> str | None:
    try:
        found = ModelCard.load(card, ignore_metadata_errors=True).data.license
    except Exception:  # no card, one that cannot be read, no Hub: it is not known then
        return None
    return found if isinstance(found, str) else None


def passed_on(found: Sequence[Mapping[str, Any]]) -> str | None:
    """The license of what has learned from these encoders: theirs, where all state the same one; None where it is not known."""
    licenses = {teacher["license"] for teacher in found}
    return licenses.pop() if len(licenses) == 1 else None


def told_teacher(teacher: Mapping[str, Any]) -> str:
    """What an encoder has learned from a released one."""
    license = f" (license: {teacher['license']})" if teacher["license"] else ""
    return f"It was distilled from the released encoder {told_weights(teacher)}{license}, which is no part of it and is not needed to use it."
