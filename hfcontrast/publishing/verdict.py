"""The verdict on a finished run: whether its encoder is better than what there was before, and where not, why that may be and what to try."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..evaluation.registry import figures_of
from ..evaluation.verdict import BASELINES, told_baselines_above
from ..recipe import Recipe
from ..recipe.published import OWN_FILE
from ..training.build import Training
from ..training.collapse import features_collapsed
from ..training.loss_range import constant_loss
from ..training.tracking import read_metrics
from .beaten import figures_beaten, headlines, not_beaten, told_beaten, told_not_beaten, told_saturated
from .cause import Cause, RunFacts
from .causes import likeliest_causes
from .told import told_nothing

AGREEMENT, RANKME = "label_free_neighbor_agreement", "label_free_rankme"
ALIGNMENT, UNIFORMITY = "label_free_alignment", "label_free_uniformity"


class Verdict(NamedTuple):
    """What is said at the end of a run.

    Attributes:
        beaten: Whether the encoder beats all baselines by all headline figures; None where none was compared, or none can show a difference.
        sentences: Which it does not beat, by headline figures and by others; without labels, what the figures mean. Empty where all is well
            and nothing to be explained. They are those of cards too, so that none has advice.
        causes: The likeliest causes, where it does not.
        data: The settings by which another recipe has the run's data.
    """

    beaten: bool | None
    sentences: list[str]
    causes: list[Cause]
    data: Sequence[str] = ()

    def lines(self, output: Path) -> list[str]:
        """As the last lines of a run, with commands.

        Args:
            output: The run's folder.
        """
        found = [*self.sentences]
        if self.causes:
            found.append("Likeliest causes, by the facts of this run:")
        for number, cause in enumerate(self.causes, start=1):
            command = command_for(cause, output, self.data)
            found.append(f"{number}. {cause.text}{f'; try: {command}' if command else ''}")
        return found

    def facts(self) -> dict[str, Any]:
        """As ``result.json`` has it.

        Returns:
            ``beats_baselines``: whether it beats all of them by all headline figures, null where none was compared; ``sentences``: which
            it does not, or what figures without labels mean; ``causes``: the likeliest ones (``cause``, ``try``: settings, ``resumes``:
            whether the same run goes on with them; ``recipe``, where another one than the run's is to be tried, on the same data).
        """
        causes = [
            {"cause": cause.text, "try": cause.overrides, "resumes": cause.resumes}
            | ({"recipe": cause.recipe} if cause.recipe else {})
            for cause in self.causes
        ]
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
        causes = likeliest_causes(facts_of(training, notes, scores, lost))
        return Verdict(False, told, causes, data_settings(training.recipe))
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
    better = [told_beaten(scores)] if lost and figures_beaten(scores) else []
    return [*unlabeled, *told_saturated(scores, counts), *own, *better, *told_baselines_above(scores, left_out=lost)]


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
    for key, meaning in (
        (ALIGNMENT, "the distance of two views of an image"),
        (UNIFORMITY, "lower the more evenly images are spread"),
    ):
        if key in own:
            shown = figures_of([key])[key][1]
            was = f" (before {shown.text(before[key])})" if before and key in before else ""
            text += f"; {shown.title}, {meaning}, is {shown.text(own[key])}{was}"
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
        texts=training.captions is not None,
    )


def data_settings(recipe: Recipe) -> list[str]:
    """The settings by which another recipe has a run's data: all that say where these are and what of them is read.

    Args:
        recipe: That of the run.
    """
    section, plain = recipe.data, type(recipe.data).model_fields
    names = {*recipe.data.source(), "caption_column"}
    values = {name: getattr(section, name) for name in plain if name in names}
    return [
        f"data.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in values.items()
        if name == "path" or (value is not None and value != plain[name].get_default(call_default_factory=True))
    ]


def command_for(cause: Cause, output: Path, data: Sequence[str] = ()) -> str:
    """The command that tries what may help against a cause: resumes the run, or trains beside it; empty where no setting helps.

    Args:
        cause: The cause.
        output: The run's folder.
        data: The settings by which another recipe has the run's data.
    """
    if not (cause.overrides or cause.recipe):
        return ""
    beside = [] if cause.resumes else [f"train.output={output}-2"]
    recipe, of_data = (cause.recipe, data) if cause.recipe else (str(output / OWN_FILE), ())
    return shlex.join(["hfcontrast", "train", recipe, *beside, *of_data, *cause.overrides])
