"""The protocol of an evaluator: the rows it needs, its settings, its figures, and one method that evaluates an encoder.

An evaluator is a class with a docstring whose first paragraph says what it measures, found through an entry point of the group
``hfcontrast.evaluators``. Runs, ``hfcontrast evaluate``, ``hfcontrast compare``, model cards and trackers go over what is declared.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from ..errors import DataError
from ..renamed import warn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .data_sets import DataSet
    from .rows import EvaluationRows

# What rows can be asked for by these names; any other name is that of a further column of the test rows ("mask", "boxes").
TRAIN, LABELS, CLASS_NAMES, CAPTIONS, TEXT_TOWER = "train rows", "labels", "class names", "captions", "a text tower"
NEEDS = (LABELS, CLASS_NAMES, CAPTIONS, TEXT_TOWER, TRAIN)  # in the order in which they are missed


class NothingToEvaluate(DataError):
    """The rows are of the right kind, but none of them can be evaluated on, as where no test image has a label."""


class Settings(BaseModel):
    """The settings of an evaluator: a subclass declares them as fields with a type, a default and a description.

    They are those of ``eval.tasks.NAME`` in recipes, of ``hfcontrast evaluate --set NAME.KEY=VALUE`` and of the JSON schema.
    Unknown names are refused and no value is converted, except whole numbers to numbers.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


@dataclass(frozen=True)
class Figure:
    """A number that an evaluator measures.

    Args:
        name: Its name in :attr:`Scores.figures`. It may end with ``*``: a figure for each name that the settings give.
        title: The heading of its column in tables; a ``*`` in it stands for that of the name.
        kind: ``share`` (in [0, 1], shown in %) or ``number``.
        higher_is_better: Whether larger values are better; None where neither is.
        headline: Whether it is the figure that the evaluator is quoted by.
        key: Its name in ``result.json``, ``metrics.jsonl`` and trackers; None: ``EVALUATOR_NAME``.
        shown_in: Which tables have a column for it: that of ``compare``, that of model cards.
        tracked: Whether runs keep it; else it is one of ``hfcontrast evaluate`` alone.
        low: Its smallest value; None: 0 of a share, else none.
        high: Its largest value; None: 1 of a share, else none.
        digits: Decimals of a number in tables; a small number has four significant digits.
        metric: What the Hub calls it in a card's results; of a number, accuracy stands for its own name.
    """

    name: str
    title: str
    kind: Literal["share", "number"] = "share"
    higher_is_better: bool | None = True
    headline: bool = False
    key: str | None = None
    shown_in: frozenset[str] = frozenset({"compare", "card"})
    tracked: bool = True
    low: float | None = None
    high: float | None = None
    digits: int = 2
    metric: str = "accuracy"

    @property
    def hub_metric(self) -> str:
        """What the Hub calls it: a number that nobody has given a name there is no accuracy, and keeps its own."""
        return self.name if self.kind == "number" and self.metric == "accuracy" else self.metric

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The smallest and the largest value that it can have; None where there is no bound."""
        share = self.kind == "share"
        return (0.0 if share and self.low is None else self.low, 1.0 if share and self.high is None else self.high)

    @property
    def heading(self) -> str:
        """The title with its unit, for columns of bare numbers."""
        return f"{self.title}, %" if self.kind == "share" else self.title

    def bare(self, value: float) -> str:
        """A value below :attr:`heading`."""
        return f"{100 * value:.1f}" if self.kind == "share" else self._number(value)

    def text(self, value: float | None) -> str:
        """A value with its unit; a dash where there is none."""
        if value is None or not math.isfinite(value):
            return "–"
        return f"{100 * value:.1f} %" if self.kind == "share" else self._number(value)

    def _number(self, value: float) -> str:
        """A number with its decimals, or with four significant digits where these would leave one at most."""
        small = 0 < abs(value) < 10.0 ** (1 - max(self.digits, 1))
        return f"{value:.4g}" if small else f"{value:,.{self.digits}f}"


@dataclass(frozen=True)
class Chance:
    """What a figure is without looking at an image.

    Args:
        value: The figure.
        answer: The class that is always answered, where the classes do not have equally many test images.
    """

    value: float
    answer: str | None = None

    @property
    def says_nothing(self) -> bool:
        """Whether the figure is always 100 %: any encoder has it."""
        return certain(self.value)


def certain(chance: float | None) -> bool:
    """Whether a share is 100 % by chance, so that it says nothing of an encoder.

    Args:
        chance: What it is by chance; None where that is not known.
    """
    return chance is not None and chance >= 1 - 1e-9


@dataclass(frozen=True)
class Scores:
    """The result of an evaluation.

    Args:
        figures: The values by the names of the declared figures.
        details: Further facts for the reports of ``hfcontrast evaluate``, such as the number of classes.
        counts: The numbers behind the figures, such as ``{"images": 40, "texts": 80, "k": 20}``; ``of_images`` says of how many. Those
            of single figures are dictionaries under the figure's name. What ``rows`` handed out as features is counted without this.
        chance: What figures are by chance, by their names: of classification that of ``rows.chance``, which is known once
            ``rows.labeled_features`` was called.
        data: What figures were measured on that are not of the test rows, by their names: what ``rows.data_of`` gives.
    """

    figures: dict[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    chance: Mapping[str, Chance | None] = field(default_factory=dict)
    data: "Mapping[str, DataSet | None]" = field(default_factory=dict)

    def counts_of(self, name: str) -> dict[str, Any]:
        """The numbers behind a figure, and the title of the ``data``, where these are not the test rows."""
        common = {key: value for key, value in self.counts.items() if not isinstance(value, Mapping)}
        other = self.data.get(name)
        return common | dict(self.counts.get(name, {})) | ({"data": other.title} if other else {})


class Evaluator(ABC):
    """Measures something of an encoder, on images that it was not trained on.

    Attributes:
        name: Its name in recipes and for ``--task``.
        needs: What it needs of the rows and the encoder: entries of :data:`NEEDS`, or names of further columns of the data.
        settings_class: Its settings, with types, defaults and descriptions.
        figures: What it measures; exactly one is the headline.
        in_runs: Whether runs evaluate it by default, where rows and encoder have what it needs; otherwise only where
            ``eval.tasks`` names it.
        when_possible: Whether ``hfcontrast evaluate`` without ``--task`` includes it; otherwise it has to be named.
        without_labels: Whether it takes the place of evaluators that need labels or captions: without being named it is included only
            where the test rows have neither.
        beside: Whether it is computed wherever the features of the test images are available anyway, without being named.
        thorough: Whether it is slow: runs evaluate it before and after the training only.
        trains: Whether it trains a copy of the encoder, for which it reads the images several times and needs unsharded weights.
        of_pixels: Whether it uses only features of the encoder, so that its figures for raw pixels are a baseline.
        caveat: A sentence on what its figures do not show, for tables that also have an evaluator that trains.
        version: Raised where it measures other figures of the same features: scores of another version are measured again.
        order: Its place in tables; the smaller one is further to the left.
        task_type: The kind of task, as the Hub's model index calls it.
        task_name: The task in words, in the same place.
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    settings_class: ClassVar[type[Settings]] = Settings
    figures: ClassVar[tuple[Figure, ...]]
    in_runs: ClassVar[bool] = False
    when_possible: ClassVar[bool] = True
    without_labels: ClassVar[bool] = False
    beside: ClassVar[bool] = False
    thorough: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    of_pixels: ClassVar[bool] = False
    caveat: ClassVar[str | None] = None
    version: ClassVar[int] = 1
    order: ClassVar[int] = 100
    task_type: ClassVar[str] = "image-classification"
    task_name: ClassVar[str] = "classification of frozen features"

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "told" in vars(cls) and "reported_settings" not in vars(cls):
            warn(f"evaluator {cls.__module__}.{cls.__qualname__}: told", "reported_settings", stacklevel=4)
            cls.reported_settings = cls.told  # type: ignore[method-assign]

    @abstractmethod
    def evaluate(self, encoder: "PreTrainedModel", rows: "EvaluationRows", settings: Any) -> Scores:
        """Evaluates an encoder. Every process calls it, and each gets the figures of all images.

        It changes nothing of the encoder, its modes or the global random state.

        Args:
            encoder: Any transformers vision model, or one with two towers; for an evaluator with ``of_pixels`` also raw pixels.
            rows: The images; their features are shared with other evaluators.
            settings: An instance of :attr:`settings_class`.

        Raises:
            NothingToEvaluate: There are no rows to evaluate on.
        """

    def needs_with(self, settings: Any) -> frozenset[str]:
        """What is needed with these settings."""
        return self.needs

    def check(self, encoder: "PreTrainedModel", rows: "EvaluationRows", settings: Any) -> None:  # noqa: B027
        """Checks the settings before anything expensive; opens further rows that they name.

        Raises:
            HFContrastError: They cannot be used; with the reason.
        """

    def explain(self, settings: Any, names: list[str]) -> str:
        """Sentences on how the figures were computed, for model cards.

        Args:
            settings: The settings.
            names: Names of the computed figures.
        """
        return f"{self.headline.title}: {self.summary()}"

    def conditions(self, settings: Any) -> Any:
        """Everything except encoder and images that its figures depend on, as JSON: a resumed run compares it."""
        return settings.model_dump(mode="json", exclude_none=True)

    def reported_settings(self, settings: Any) -> dict[str, Any]:
        """The settings that ``hfcontrast evaluate`` reports beside the figures, as JSON."""
        return settings.model_dump(mode="json", exclude_none=True)

    def told(self, settings: Any) -> dict[str, Any]:
        """The old name of :meth:`reported_settings`."""
        warn(f"evaluator {self.name}: told", "reported_settings")
        return self.reported_settings(settings)

    @property
    def headline(self) -> Figure:
        """The main figure."""
        return next(figure for figure in self.figures if figure.headline)

    @classmethod
    def summary(cls) -> str:
        """The first paragraph of its docstring, in one line."""
        return " ".join((cls.__doc__ or cls.__name__).strip().split("\n\n")[0].split())

    def figure_of(self, name: str) -> Figure | None:
        """The declaration of a figure by its name in :attr:`Scores.figures`; None where it is not declared."""
        for figure in self.figures:
            if figure.name == name or (figure.name.endswith("*") and name.startswith(figure.name[:-1])):
                return figure
        return None

    def key(self, name: str) -> str:
        """The name of a figure in ``result.json``, ``metrics.jsonl`` and trackers."""
        if (figure := self.figure_of(name)) is None:
            raise KeyError(f"{self.name} declares no figure {name!r}")
        key = self.key_of(figure)
        return key[:-1] + name[len(figure.name) - 1 :] if figure.name.endswith("*") else key

    def key_of(self, figure: Figure) -> str:
        """The same of a declaration; it ends with ``*`` where its name does."""
        return figure.key or f"{self.name}_{figure.name}".replace("-", "_")


class Task(NamedTuple):
    """An evaluator with its settings."""

    evaluator: Evaluator
    settings: Any
