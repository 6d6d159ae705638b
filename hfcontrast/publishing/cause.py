"""The facts of a run that causes are found by, and one cause with what to try."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class RunFacts:
    """What the rules look at.

    Attributes:
        steps: Optimizer steps.
        epochs: Passes over the images.
        minutes: ``train.minutes``, where that decided.
        batch_size: Images of a step.
        images: How many are trained on; None of a stream that does not say.
        lr: ``optim.lr``.
        views: The views by name, as a resolved recipe has them.
        released: Whether the run started from released weights.
        losses: The loss in its log lines.
        collapsed: Whether the features have collapsed.
        constant: Whether the loss never changed.
        test_images: That were classified; None without labels.
        scores: ``scores`` of ``result.json``.
        lost_to: The baselines that are not beaten, by the keys of the figures.
        advice: What the method says that helps against a collapse.
        texts: Whether the method learns from captions, with a text tower.
    """

    steps: int
    epochs: float
    batch_size: int
    lr: float
    views: Mapping[str, Mapping[str, Any]]
    minutes: float | None = None
    images: int | None = None
    released: bool = False
    losses: Sequence[float] = ()
    collapsed: bool = False
    constant: bool = False
    test_images: int | None = None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lost_to: Mapping[str, Sequence[str]] = field(default_factory=dict)
    advice: str = ""
    texts: bool = False

    @property
    def predictive(self) -> bool:
        """Whether the method sees one view of an image, and predicts parts of it from others."""
        return sum(view["count"] for view in self.views.values()) == 1

    @property
    def baselines(self) -> list[Mapping[str, float]]:
        """Their scores."""
        return [scores for name, scores in self.scores.items() if name != "trained"]

    def above(self, baseline: str, key: str) -> float:
        """By how much a baseline's figure is above the encoder's, as tables show them; 0 where it is not."""
        scores = self.scores.get(baseline, {}), self.scores.get("trained", {})
        if any(key not in one for one in scores):
            return 0.0
        return max(round(scores[0][key], 3) - round(scores[1][key], 3), 0.0)

    def lower_than(self, baseline: str) -> bool:
        """Whether a baseline is above the encoder by a figure, and not merely as good."""
        return any(baseline in names and self.above(baseline, key) > 0 for key, names in self.lost_to.items())

    def every_view(self, **changes: Any) -> list[str]:
        """Overrides that change all views that are not so already."""
        return [
            f"views.{name}.{key}={value}"
            for name, view in self.views.items()
            for key, value in changes.items()
            if view.get(key) != value
        ]


class Cause(NamedTuple):
    """One cause.

    Attributes:
        weight: How likely it is, beside the others.
        text: What it is, as a sentence says it.
        overrides: What to try, as settings; empty where nothing in a recipe helps.
        resumes: Whether the run in its folder goes on with them, instead of a new one.
        recipe: The recipe that a new run on the same data takes instead of the run's own; None: that one.
    """

    weight: float
    text: str
    overrides: list[str]
    resumes: bool = False
    recipe: str | None = None
