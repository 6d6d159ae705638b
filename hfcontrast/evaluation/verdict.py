"""What is said of baselines, chance among them: the sentences of the screen, of cards, of ``result.json`` and of ``compare``."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .protocol import certain
from .registry import figures_of

# The baselines of ``scores`` in ``result.json``, in the order of tables, and how sentences call them.
BASELINES = {
    "chance": "Chance",
    "raw_pixels": "The baseline of raw pixels",
    "untrained": "The untrained encoder",
    "starting_point": "The starting point",
}


@dataclass(frozen=True)
class Above:
    """A figure by which a baseline is better than an encoder.

    Attributes:
        baseline: A name of :data:`BASELINES`.
        key: The figure's key in ``result.json``.
        title: Its title.
        of_baseline: The baseline's value, as tables show it.
        of_encoder: The encoder's value.
    """

    baseline: str
    key: str
    title: str
    of_baseline: str
    of_encoder: str


def baselines_above(scores: Mapping[str, Mapping[str, float]], encoder: str = "trained") -> list[Above]:
    """The figures by which a baseline is better than an encoder, as far as tables show a difference.

    Figures of which neither larger nor smaller values are better (the spread of features), and those that are 100 % by chance, are not compared.

    Args:
        scores: ``scores`` of ``result.json``: by the names of :data:`BASELINES` and that of the encoder, figures by their keys.
        encoder: The name of the encoder's scores.
    """
    own = scores.get(encoder) or {}
    figures = {
        key: figure
        for key, (evaluator, figure) in figures_of(own).items()
        if evaluator and figure.shown_in and figure.higher_is_better is not None
    }
    found = []
    for baseline in BASELINES:
        others = scores.get(baseline) or {}
        for key, figure in figures.items():
            value, other = own.get(key), others.get(key)
            if value is None or other is None or certain((scores.get("chance") or {}).get(key)):
                continue
            better = other > value if figure.higher_is_better else other < value
            texts = figure.text(other), figure.text(value)
            if better and texts[0] != texts[1]:
                found.append(Above(baseline, key, figure.title, *texts))
    return found


def told_baselines_above(
    scores: Mapping[str, Mapping[str, float]],
    name: str = "the trained encoder",
    encoder: str = "trained",
    titles: Mapping[str, str] | None = None,
    left_out: Collection[str] = (),
) -> list[str]:
    """The same as sentences, one for each baseline; empty where no baseline is better.

    Args:
        scores: As for :func:`baselines_above`.
        name: How sentences call the encoder.
        encoder: As for :func:`baselines_above`.
        titles: How sentences call the figures, by their keys; None: by their titles.
        left_out: Keys of figures of which nothing is said.
    """
    above, sentences = [one for one in baselines_above(scores, encoder) if one.key not in left_out], []
    for baseline, who in BASELINES.items():
        parts = [
            f"{(titles or {}).get(one.key, one.title)} {one.of_baseline} against {one.of_encoder}"
            for one in above
            if one.baseline == baseline
        ]
        if parts:
            sentences.append(f"{who} scores above {name}: {'; '.join(parts)}.")
    return sentences


def told_answers(answers: Mapping[str, str], titles: Mapping[str, str], where: str = "") -> str:
    """Which class chance is of, where the classes are unequal, as a sentence; empty where they are equal.

    Args:
        answers: The most frequent class, by the keys of figures.
        titles: Of the figures that are shown, by their keys. Where not all have one answer, each answer is followed by those that have it.
        where: Which data the test images are of, where a table has several.
    """
    by_answer: dict[str, list[str]] = {}
    for key, title in titles.items():
        if key in answers:
            by_answer.setdefault(answers[key], []).append(title)
    parts = [
        f"{answer!r}" + (f" ({', '.join(names)})" if not titles.keys() <= answers.keys() or len(by_answer) > 1 else "")
        for answer, names in by_answer.items()
    ]
    return (
        f"Chance{f' on {where}' if where else ''}: always the most frequent class, {', '.join(parts)}." if parts else ""
    )
