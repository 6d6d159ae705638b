"""The verdict on a finished run: whether its encoder is better than what there was before, and where not, why that may be and what to try."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..evaluation.protocol import Figure, certain
from ..evaluation.registry import figures_of
from ..evaluation.verdict import BASELINES, told_baselines_above
from ..recipe.published import OWN_FILE
from ..training.build import Training
from ..training.collapse import features_collapsed
from ..training.loss_range import constant_loss
from ..training.tracking import read_metrics
from .causes import Cause, RunFacts, likeliest_causes
from .told import told_nothing

AGREEMENT, RANKME = "label_free_neighbor_agreement", "label_free_rankme"
_WHO = {
    "chance": "chance",
    "raw_pixels": "raw pixels",
    "untrained": "untrained encoder",
    "starting_point": "starting point",
}


class Verdict(NamedTuple):
    """What is said at the end of a run.

    Attributes:
        beaten: Whether the encoder beats all baselines by all headline figures; None where none was compared.
        sentences: Which it does not beat, by headline figures and by others; without labels, what the figures mean. Empty where all is well
            and nothing to be explained. They are those of cards too, so that none has advice.
        causes: The likeliest causes, where it does not.
    """

    beaten: bool | None
    sentences: list[str]
    causes: list[Cause]

    def lines(self, output: Path) -> list[str]:
        """As the last lines of a run, with commands.

        Args:
            output: The run's folder.
        """
        found = [*self.sentences]
        if self.causes:
            found.append("Likeliest causes, by the facts of this run:")
        for number, cause in enumerate(self.causes, start=1):
            command = command_for(cause, output)
            found.append(f"{number}. {cause.text}{f'; try: {command}' if command else ''}")
        return found

    def facts(self) -> dict[str, Any]:
        """As ``result.json`` has it.

        Returns:
            ``beats_baselines``: whether it beats all of them by all headline figures, null where none was compared; ``sentences``: which
            it does not, or what figures without labels mean; ``causes``: the likeliest ones (``cause``, ``try``: settings, ``resumes``:
            whether the same run goes on with them).
        """
        causes = [{"cause": cause.text, "try": cause.overrides, "resumes": cause.resumes} for cause in self.causes]
        return {"beats_baselines": self.beaten, "sentences": self.sentences, "causes": causes}


def verdict_of(training: Training, notes: Mapping[str, Any], scores: Mapping[str, Mapping[str, float]]) -> Verdict:
    """The verdict on a run.

    Args:
        training: The run.
        notes: Its notes.
        scores: ``scores`` of ``result.json``.
    """
    lost, told = not_beaten(scores), told_sentences(scores, notes.get("counts", {}))
    if lost:
        return Verdict(False, told, likeliest_causes(facts_of(training, notes, scores, lost)))
    others = [scores.get(name) or {} for name in BASELINES if name != "chance"]
    compared = any(key in other for other in others for key in headlines(scores))
    return Verdict(True if compared else None, told, [])


def told_sentences(scores: Mapping[str, Mapping[str, float]], counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What figures without labels mean, and which baselines are not beaten by headline figures, or are better by others.

    Args:
        scores: ``scores`` of ``result.json``.
        counts: The numbers behind the trained encoder's figures.
    """
    lost = not_beaten(scores)
    unlabeled = [told_label_free(scores, counts)] if AGREEMENT in scores.get("trained", {}) else []
    own = [told_not_beaten(scores, lost)] if lost else []
    return [*unlabeled, *own, *told_baselines_above(scores, left_out=lost)]


def headlines(scores: Mapping[str, Mapping[str, float]]) -> dict[str, Figure]:
    """The headline figures of a trained encoder that can be compared, by their keys: those that are 100 % by chance say nothing."""
    return {
        key: figure
        for key, (evaluator, figure) in figures_of(scores.get("trained") or {}).items()
        if evaluator and figure.headline and figure.higher_is_better
        if not certain((scores.get("chance") or {}).get(key))
    }


def concluding(notes: Mapping[str, Any], scores: Mapping[str, Mapping[str, float]], labels: str | None) -> list[str]:
    """What a card concludes from its table.

    Args:
        notes: Of the run.
        scores: ``scores`` of ``result.json``.
        labels: The fact of this name of the data.
    """
    nothing = [told_nothing(notes["evaluation"], labels)] if without_classes(notes) else []
    return [*nothing, *told_sentences(scores, notes.get("counts", {}))]


def without_classes(notes: Mapping[str, Any]) -> bool:
    """Whether a run was evaluated without labels, so that its table has no accuracy."""
    return AGREEMENT in notes.get("trained", {}) and "train_images" not in notes["evaluation"]


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


def told_not_beaten(scores: Mapping[str, Mapping[str, float]], lost: Mapping[str, list[str]]) -> str:
    """Which baselines an encoder does not beat, as a sentence."""
    figures = figures_of(scores["trained"])
    parts = []
    for key, names in lost.items():
        figure = figures[key][1]
        others = ", ".join(f"{_WHO[name]} {figure.text(scores[name][key])}" for name in names)
        parts.append(f"{figure.title} {figure.text(scores['trained'][key])} ({others})")
    return f"The trained encoder does not beat its baselines: {'; '.join(parts)}."


def told_label_free(scores: Mapping[str, Mapping[str, float]], counts: Mapping[str, Mapping[str, Any]]) -> str:
    """What the figures without labels mean, in sentences.

    Args:
        scores: ``scores`` of ``result.json``.
        counts: The numbers behind the trained encoder's figures.
    """
    own = scores["trained"]
    numbers = counts.get(AGREEMENT, {})
    before = next((scores[name] for name in ("untrained", "starting_point") if AGREEMENT in scores.get(name, {})), None)
    figure = figures_of([AGREEMENT])[AGREEMENT][1]
    against = f", before the training {figure.text(before[AGREEMENT])}" if before else ""
    chance = scores.get("chance", {}).get(AGREEMENT)
    against += "" if chance is None else f", by chance {figure.text(chance)}"
    k, images = numbers.get("k", "few"), numbers.get("images")
    among = f" of {images:,} images" if images else ""
    text = f"Without labels: two augmented views{among} agree on {figure.text(own[AGREEMENT])} of the {k} nearest neighbors{against}"
    if before and own[AGREEMENT] > before[AGREEMENT]:
        text += ": the encoder finds the same images alike whatever their crop and light, more than before"
    if RANKME in own:
        was = f", before {before[RANKME]:.1f}" if before and RANKME in before else ""
        text += f"; its features use some {own[RANKME]:.1f} directions (RankMe{was}), 1 would be a collapse"
    return f"{text}. Whether they tell apart what matters to you, some dozens of labeled images per class would show."


def facts_of(
    training: Training,
    notes: Mapping[str, Any],
    scores: Mapping[str, Mapping[str, float]],
    lost: Mapping[str, list[str]],
) -> RunFacts:
    """The facts by which causes are found."""
    recipe = training.recipe
    lines = read_metrics(training.output / "metrics.jsonl")
    tests = [
        numbers["test_images"]
        for key, numbers in notes.get("counts", {}).items()
        if key in lost and "test_images" in numbers
    ]
    return RunFacts(
        steps=training.total_steps,
        epochs=training.total_steps / training.loader.steps_per_epoch,
        batch_size=recipe.train.batch_size,
        lr=recipe.optim.lr,
        views=recipe.views,
        minutes=recipe.train.minutes,
        images=training.rows.num_rows,
        released=training.weights is not None,
        losses=[line["loss"] for line in lines if "loss" in line],
        collapsed=features_collapsed(notes),
        constant=constant_loss(dict(notes), training.total_steps) is not None,
        test_images=min(tests, default=None),
        scores=scores,
        lost_to=lost,
        advice=training.method.collapse_advice,
    )


def command_for(cause: Cause, output: Path) -> str:
    """The command that tries what may help against a cause: resumes the run, or trains beside it; empty where no setting helps.

    Args:
        cause: The cause.
        output: The run's folder.
    """
    if not cause.overrides:
        return ""
    beside = [] if cause.resumes else [f"train.output={output}-2"]
    return shlex.join(["hfcontrast", "train", str(output / OWN_FILE), *beside, *cause.overrides])
