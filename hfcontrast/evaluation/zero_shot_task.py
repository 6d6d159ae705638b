"""Zero-shot classification as an evaluator: of the test images, or of several data sets, by the names of their classes."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ..errors import DataError
from .protocol import CLASS_NAMES, LABELS, TEXT_TOWER, Evaluator, Figure, NothingToEvaluate, Scores, Settings
from .templates import PHOTO, check_templates

if TYPE_CHECKING:
    from ..data.sources import Rows
    from .zero_shot import ZeroShot

Template = Annotated[str, Field(pattern=r"\{\}")]


class Source(Settings):
    """Where further rows come from, as recipes have it; what is null is as for the test images."""

    path: str | None = Field(None, description="Data set; null: that of the test images.")
    name: str | None = Field(None, description="Configuration (subset) of the data set.")
    data_dir: str | None = Field(
        None, description="Folder with the data, within the data set or for a packaged format."
    )
    data_files: str | list[str] | dict[str, str | list[str]] | None = Field(
        None, description="Files of the data set: one pattern, a list, or a mapping from split to either."
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a data set on the Hub.")
    image_column: str | None = Field(
        None, description="Column with the images, or a field of one, COLUMN.FIELD; null: `image`, else the first one."
    )
    label_column: str | None = Field(
        None, description="Column with the class labels; null: `label`, else the first one."
    )
    caption_column: str | None = Field(None, description="Column with the captions.")


class ZeroShotTask(Source):
    """A labeled data set that images are classified on by the names of its classes."""

    task: str | None = Field(None, description="What tables call it; null: the label column's name.")
    split: str | None = Field(None, description="Split to evaluate on; null: that of the test images.")
    templates: list[Template] = Field(
        [*PHOTO], min_length=1, description="Prompts with {} for the name of a class; their embeddings are averaged."
    )
    classes: list[str] | None = Field(None, description="Names of the classes, by label; null: the data set's own.")

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.task or self.label_column or "label"


class ZeroShotSettings(Settings):
    """Settings of zero-shot classification."""

    tasks: list[ZeroShotTask] | None = Field(
        None, description="Data sets to classify; null: the test images, by the settings below. [] for none."
    )
    templates: list[Template] = Field(
        [*PHOTO], min_length=1, description="Prompts with {} for the name of a class, where there are no tasks."
    )
    classes: list[str] | None = Field(
        None,
        description="Names of the classes, by label, as they are; null: the data's own, with spaces for underscores.",
    )


class ZeroShotEvaluator(Evaluator):
    """Classification by the names of the classes in prompts, for models with a text tower (CLIP's protocol)."""

    name = "zero-shot"
    settings_class = ZeroShotSettings
    needs = frozenset({LABELS, CLASS_NAMES, TEXT_TOWER})
    figures = (
        Figure("top1", "zero-shot label", key="zero_shot_label", headline=True),
        Figure("top5", "zero-shot label, top 5", tracked=False, shown_in=frozenset()),
        Figure("mean_per_class", "zero-shot label, mean per class", tracked=False, shown_in=frozenset()),
        Figure("top1_*", "zero-shot *", key="zero_shot_*"),
    )
    in_runs = True
    order = 40
    task_type = "zero-shot-image-classification"
    task_name = "zero-shot image classification"

    def needs_with(self, settings):
        if settings.tasks is not None:
            return frozenset({TEXT_TOWER})
        return self.needs - ({CLASS_NAMES} if settings.classes else set())

    def check(self, encoder, rows, settings):
        check_templates(settings.templates)
        if settings.tasks is None:
            if rows.test_rows is not None:
                _names(rows.test_rows, settings.classes)
            return
        titles = [task.title for task in settings.tasks]
        if doubled := next((title for title in titles if titles.count(title) > 1), None):
            raise DataError(f"two zero-shot tasks are called {doubled!r}: give them a name, task: ...")
        for number, task in enumerate(settings.tasks, start=1):
            try:
                self._task(rows, task)
            except DataError as error:
                given = task.model_dump(include={"path", "name", "split", "label_column"}, exclude_none=True)
                named = ", ".join(f"{key}: {value}" for key, value in given.items())
                raise DataError(
                    f"task {number} of zero-shot classification ({named or task.title}): {error}"
                ) from error

    def evaluate(self, encoder, rows, settings):
        from .counts import behind
        from .zero_shot import ZeroShot, class_places, require_text_tower

        require_text_tower(encoder)
        if settings.tasks is None:
            features, labels = rows.test_features(encoder)
            if not (labels >= 0).any():
                raise NothingToEvaluate("zero-shot classification needs labeled images: there is none")
            names = _names(rows.test_rows, settings.classes)
            places = partial(class_places, rows.test_rows.labels, names) if rows.test_rows else None
            one = ZeroShot(rows.test, rows.tokenizer, names, settings.templates, places=places)
            details = {"classes": len(names), "templates": len(settings.templates)}
            figures = one.score(encoder, features, labels)
            return Scores(figures, details, {"classes": len(names)} | one.cut_off, one.chance)
        found, counts, chance, data = {}, {}, {}, {}
        for task in settings.tasks:
            one, name = self._task(rows, task), f"top1_{task.title}"
            found[name] = one(encoder)["top1"]
            counts[name] = behind("test", one.images, one.batches) | {"classes": len(one.class_names)} | one.cut_off
            chance[name] = one.chance["top1"]
            data[name] = rows.data_of(_source(task), task.split)
        return Scores(found, counts=counts, chance=chance, data=data)

    def _task(self, rows: Any, task: ZeroShotTask) -> "ZeroShot":
        from .zero_shot import ZeroShot, class_names_of, class_places

        others, batches = rows.others(_source(task), task.split)
        names = class_names_of(others, task.classes)
        places = partial(class_places, others.labels, names)
        return ZeroShot(batches, rows.tokenizer, _spoken(names), task.templates, places=places)

    def explain(self, settings, names):
        if settings.tasks is None:
            told = {"label": settings.templates}
        else:
            told = {task.title: task.templates for task in settings.tasks if f"top1_{task.title}" in names}
        return " ".join(
            f"Zero-shot {task}: classification by the names of the classes in "
            + ", ".join(f'"{template}"' for template in templates)
            + "."
            for task, templates in told.items()
        )

    def conditions(self, settings):
        if settings.tasks is not None:
            return [task.model_dump(mode="json") for task in settings.tasks]
        own = settings.model_dump(mode="json", exclude={"tasks"})
        return None if settings == ZeroShotSettings() else own

    def reported_settings(self, settings):
        return {}


def _source(task: ZeroShotTask) -> dict[str, Any]:
    return task.model_dump(include=set(Source.model_fields))


def _names(rows: "Rows", given: list[str] | None) -> list[str]:
    """The names that are given, as they are, else the data's own, with spaces for underscores."""
    from .zero_shot import class_names_of

    names = class_names_of(rows, given)
    return names if given is not None else _spoken(names)


def _spoken(names: list[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]
