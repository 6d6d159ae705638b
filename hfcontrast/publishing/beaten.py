"""Which baselines a trained encoder beats, by which figures, which it does not, and which figures cannot tell."""

from collections.abc import Mapping
from typing import Any

from ..evaluation.protocol import Figure, certain
from ..evaluation.registry import figures_of
from ..evaluation.verdict import BASELINES

_WHO = {
    "chance": "chance",
    "raw_pixels": "raw pixels",
    "untrained": "untrained encoder",
    "starting_point": "starting point",
}


def headlines(scores: Mapping[str, Mapping[str, float]]) -> dict[str, Figure]:
    """The headline figures of a trained encoder that can be compared, by their keys.

    Those that are 100 % by chance say nothing, and those that a baseline has at their best, as the encoder has, show no difference.
    """
    return {
        key: figure
        for key, (evaluator, figure) in figures_of(scores.get("trained") or {}).items()
        if evaluator and figure.headline and figure.higher_is_better
        if not certain((scores.get("chance") or {}).get(key)) and not saturated_by(scores, key, figure)
    }


def saturated_by(scores: Mapping[str, Mapping[str, float]], key: str, figure: Figure) -> list[str]:
    """The baselines that have a figure at its best, as tables show it, where the trained encoder has it too.

    Args:
        scores: ``scores`` of ``result.json``.
        key: The figure's key.
        figure: Its declaration.
    """
    best = figure.bounds[1]
    if best is None or figure.text(scores["trained"][key]) != figure.text(best):
        return []
    return [
        name
        for name in BASELINES
        if key in (other := scores.get(name) or {}) and figure.text(other[key]) == figure.text(best)
    ]


def not_beaten(scores: Mapping[str, Mapping[str, float]]) -> dict[str, list[str]]:
    """The baselines that an encoder does not beat, by the keys of the headline figures; equal as tables show it is not beaten.

    Args:
        scores: ``scores`` of ``result.json``.
    """
    own, found = scores.get("trained") or {}, {}
    for key, figure in headlines(scores).items():
        names = [
            name
            for name in BASELINES
            if (other := (scores.get(name) or {}).get(key)) is not None
            and (other >= own[key] or figure.text(other) == figure.text(own[key]))
        ]
        if names:
            found[key] = names
    return found


def figures_beaten(scores: Mapping[str, Mapping[str, float]]) -> dict[str, list[str]]:
    """The baselines by the keys of the figures, headline or not, by which an encoder beats all baselines that have them."""
    own, found = scores.get("trained") or {}, {}
    for key, (evaluator, figure) in figures_of(own).items():
        if not (evaluator and figure.shown_in and figure.higher_is_better is not None):
            continue
        others = {name: other[key] for name in BASELINES if key in (other := scores.get(name) or {})}
        sign = 1 if figure.higher_is_better else -1
        if others and all(
            sign * (own[key] - other) > 0 and figure.text(own[key]) != figure.text(other) for other in others.values()
        ):
            found[key] = [*others]
    return found


def told_saturated(scores: Mapping[str, Mapping[str, float]], counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """That images cannot show a difference, where baselines reach what the encoder reaches and nothing is better; a sentence at most."""
    titles: list[str] = []
    names: set[str] = set()
    for key, (evaluator, figure) in figures_of(scores.get("trained") or {}).items():
        if not (evaluator and figure.headline and figure.higher_is_better) or certain(
            (scores.get("chance") or {}).get(key)
        ):
            continue
        if by := saturated_by(scores, key, figure):
            images = counts.get(key, {}).get("test_images")
            titles.append(
                f"{figure.title} {figure.text(scores['trained'][key])}{f' of {images:,} images' if images else ''}"
            )
            names |= set(by)
    if not titles:
        return []
    who = [_WHO[name] for name in BASELINES if name in names]
    return [
        f"The baselines ({', '.join(who)}) already reach what the trained encoder reaches, {', '.join(titles)}: these images cannot show a "
        "difference between them."
    ]


def told_not_beaten(scores: Mapping[str, Mapping[str, float]], lost: Mapping[str, list[str]]) -> str:
    """Which baselines an encoder does not beat, as a sentence."""
    return f"The trained encoder does not beat its baselines: {_compared(scores, lost)}."


def told_beaten(scores: Mapping[str, Mapping[str, float]]) -> str:
    """By which figures an encoder beats all its baselines, as a sentence."""
    return f"It beats them by {_compared(scores, figures_beaten(scores))}."


def _compared(scores: Mapping[str, Mapping[str, float]], names: Mapping[str, list[str]]) -> str:
    """Figures of an encoder, each with those of some baselines behind it."""
    figures, parts = figures_of(scores["trained"]), []
    for key, baselines in names.items():
        figure = figures[key][1]
        others = ", ".join(f"{_WHO[name]} {figure.text(scores[name][key])}" for name in baselines)
        parts.append(f"{figure.title} {figure.text(scores['trained'][key])} ({others})")
    return "; ".join(parts)
