"""Figures of evaluators as metrics of the `evaluate` library, in one form for all; importing this imports it, which is slow.

Where several processes run, the evaluators share out the data, all must call them, and each has the figures of the whole.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import evaluate
import torch
from datasets import Dataset, Features, IterableDataset, Value
from datasets import Sequence as SequenceOf
from torch import Tensor
from transformers import PreTrainedModel

from ..data.evaluation_loader import evaluation_batches
from ..data.sources import Rows
from .calling import call_evaluate
from .feature_rows import FeatureRows
from .features import RawPixels, extract_features
from .inputs import as_rows, blank_image, image_transform, share_out
from .protocol import CAPTIONS, LABELS, TRAIN
from .registry import get_evaluator, installed
from .retrieval import Retrieval, caption_batches, retrieval_recall
from .rows import prepared_rows, require
from .templates import PHOTO
from .zero_shot import (
    class_embeddings,
    class_names_of,
    class_places,
    mean_class_accuracy,
    require_text_tower,
    zero_shot_accuracy,
)

_VECTOR = SequenceOf(Value("float32"))


class ZeroShotAccuracy(evaluate.Metric):
    """Zero-shot accuracy of image embeddings (``predictions``) against labels (``references``).

    Args:
        class_embeddings: (K, D): see ``hfcontrast.evaluation.zero_shot.class_embeddings``.
        top: How many classes may be named.
        **options: Of ``evaluate.Metric``, such as ``keep_in_memory`` or ``experiment_id``.
    """

    def __init__(self, class_embeddings: Tensor, top: Sequence[int] = (1, 5), **options: Any):
        self.class_embeddings = torch.as_tensor(class_embeddings)
        self.top = tuple(top)
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of images whose class has one of the k class embeddings most similar to theirs.",
            citation="Radford et al., 2021, arXiv:2103.00020",
            inputs_description="predictions: image embeddings (N, D); references: labels (N,), -1 where there is none.",
            features=Features({"predictions": _VECTOR, "references": Value("int64")}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        given = torch.tensor(predictions, dtype=torch.float32), self.class_embeddings, torch.tensor(references)
        return zero_shot_accuracy(*given, self.top) | {"mean_per_class": mean_class_accuracy(*given)}


class RetrievalRecall(evaluate.Metric):
    """Recall between image embeddings (``predictions``) and the embeddings of each image's captions (``references``).

    Args:
        ks: How many candidates may be named.
        **options: Of ``evaluate.Metric``, such as ``keep_in_memory`` or ``experiment_id``.
    """

    def __init__(self, ks: Sequence[int] = (1, 5, 10), **options: Any):
        self.ks = tuple(ks)
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Recall at k between images and their captions, in both directions, and the median ranks.",
            citation="Karpathy & Fei-Fei, 2015, arXiv:1412.2306",
            inputs_description="predictions: image embeddings (N, D); references: for each image those of its captions.",
            features=Features({"predictions": _VECTOR, "references": SequenceOf(_VECTOR)}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        texts = torch.tensor([text for several in references for text in several], dtype=torch.float32)
        owners = torch.tensor([place for place, several in enumerate(references) for _ in several], dtype=torch.long)
        return retrieval_recall(torch.tensor(predictions, dtype=torch.float32), texts, owners, self.ks)


class EvaluatorMetric(evaluate.Metric):
    """The figures of any installed evaluator of frozen features: of test features (``predictions``) against labels (``references``).

    Args:
        name: The evaluator's name, such as ``knn``, ``linear``, ``features`` or that of a plugin.
        train: Features (N, D) and labels (N,) of the train images, where it needs some.
        settings: Its settings, as in ``eval.tasks.NAME`` of a recipe.
        **options: Of ``evaluate.Metric``, such as ``keep_in_memory`` or ``experiment_id``.

    Raises:
        ValueError: It needs more than features and labels: see :func:`evaluator`.
    """

    def __init__(
        self,
        name: str,
        train: tuple[Tensor, Tensor] | None = None,
        settings: Mapping[str, Any] | None = None,
        **options: Any,
    ):
        self.evaluator = get_evaluator(name)
        self.settings = self.evaluator.settings_class.model_validate_json(json.dumps(dict(settings or {})))
        needs = self.evaluator.needs_with(self.settings)
        if needs - {TRAIN, LABELS} or self.evaluator.trains:
            raise ValueError(
                f"{name} needs an encoder and its images: evaluator({name!r}).compute(model, processor, data)"
            )
        if TRAIN in needs and train is None:
            raise ValueError(f"{name} needs train=(features, labels), which its classifier is fitted to")
        self.train: Any = None if train is None else tuple(torch.as_tensor(part) for part in train)
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        figures = "; ".join(f"{figure.name}: {figure.title} ({figure.kind})" for figure in self.evaluator.figures)
        return evaluate.MetricInfo(
            description=f"{self.evaluator.summary()} {figures}",
            citation="",
            inputs_description="predictions: image features (N, D); references: labels (N,), -1 where there is none.",
            features=Features({"predictions": _VECTOR, "references": Value("int64")}),
        )

    def _compute(self, predictions: list, references: list) -> dict[str, float]:
        test = torch.tensor(predictions, dtype=torch.float32), torch.tensor(references)
        pixels: Any = RawPixels()  # stands for an encoder
        return call_evaluate(self.evaluator, pixels, FeatureRows(self.train, test), self.settings).figures


class DeclaredEvaluator:
    """Any installed evaluator, in the manner of ``evaluate.evaluator``.

    Args:
        name: Its name, such as ``knn`` or that of a plugin.
    """

    def __init__(self, name: str):
        self.evaluator = get_evaluator(name)

    def compute(
        self,
        model: PreTrainedModel,
        processor: Any,
        data: Rows | Dataset | IterableDataset,
        *,
        train: Rows | Dataset | IterableDataset | None = None,
        settings: Mapping[str, Any] | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        caption_column: str | None = None,
        batch_size: int = 64,
        limit: int | None = None,
    ) -> dict[str, float]:
        """Its figures, by their names.

        Args:
            model: Any vision model, or one with two towers.
            processor: Its processor, or its image processor.
            data: The test images.
            train: The train images, where it needs some.
            settings: Its settings, as in ``eval.tasks.NAME`` of a recipe.
            image_column: Column with the images; None: ``image``, else the first one.
            label_column: Column with the labels; None: ``label``, else the first one of class labels.
            caption_column: Column with the captions; None: ``caption``, ``captions``, ``text`` ...
            batch_size: Images encoded at once.
            limit: Images of each at most, drawn from all of them.

        Raises:
            HFContrastError: Model or data lack what it needs.
        """
        own = self.evaluator.settings_class.model_validate_json(json.dumps(dict(settings or {})))
        needs = self.evaluator.needs_with(own)
        columns: dict[str, Any] = {"image_column": image_column, "label_column": label_column}
        captioned: dict[str, Any] = {"caption_column": caption_column, "captioned": CAPTIONS in needs}
        rows = prepared_rows(
            None if train is None else as_rows(train, **columns),
            as_rows(data, **columns, **captioned),
            processor,
            size=image_transform(processor)([blank_image()]).shape[-1],
            batch_size=batch_size,
            max_train=limit,
            max_test=limit,
            keep=self.evaluator.trains,
            tokenizer=processor,
        )
        require(rows.lacks(needs, model), self.evaluator.name, rows, {TRAIN: "compute(..., train=...)"})
        self.evaluator.check(model, rows, own)
        with rows.remembering():
            return call_evaluate(self.evaluator, model, rows, own).figures


class ZeroShotEvaluator:
    """Zero-shot classification of a labeled data set, in the manner of ``evaluate.evaluator``."""

    def compute(
        self,
        model: PreTrainedModel,
        processor: Any,
        data: Rows | Dataset | IterableDataset,
        *,
        class_names: Sequence[str] | None = None,
        templates: Sequence[str] = PHOTO,
        image_column: str | None = None,
        label_column: str | None = None,
        batch_size: int = 64,
        metric: evaluate.EvaluationModule | None = None,
    ) -> dict[str, float]:
        """The metric's scores.

        Args:
            model: Any model with two towers.
            processor: Its processor: image processor and tokenizer.
            data: The images and labels.
            class_names: Names by label; None: those of the ``ClassLabel`` column.
            templates: Texts with {} for the name.
            image_column: Column with the images; None: ``image``, else the first one.
            label_column: Column with the labels; None: ``label``, else the first one of class labels.
            batch_size: Images encoded at once.
            metric: Takes image embeddings and labels; None: :class:`ZeroShotAccuracy`.

        Raises:
            HFContrastError: The model has no text tower, or the data no labels or names.
        """
        require_text_tower(model)
        rows = as_rows(data, image_column=image_column, label_column=label_column)
        names = class_names_of(rows, class_names)
        if metric is None:
            top = tuple(k for k in (1, 5) if k == 1 or k < len(names))
            metric = ZeroShotAccuracy(class_embeddings(model, processor, names, templates), top, keep_in_memory=True)
        batches = evaluation_batches(share_out(rows), image_transform(processor), batch_size)
        features, labels = extract_features(model, ((pixels, labels) for pixels, labels, _ in batches))
        metric.add_batch(predictions=features.numpy(), references=class_places(rows.labels, names, labels).numpy())
        return metric.compute()


class RetrievalEvaluator:
    """Retrieval on a data set of images and captions, in the manner of ``evaluate.evaluator``."""

    def compute(
        self,
        model: PreTrainedModel,
        processor: Any,
        data: Rows | Dataset | IterableDataset,
        *,
        image_column: str | None = None,
        caption_column: str | None = None,
        batch_size: int = 64,
        metric: evaluate.EvaluationModule | None = None,
    ) -> dict[str, float]:
        """The metric's scores.

        Args:
            model: Any model with two towers.
            processor: Its processor: image processor and tokenizer.
            data: The images and captions.
            image_column: Column with the images; None: ``image``, else the first one.
            caption_column: Column with texts or lists of texts; None: ``caption``, ``captions``, ``text`` ...
            batch_size: Images encoded at once.
            metric: Takes image embeddings and each image's text embeddings; None: that of :class:`~.retrieval.Retrieval`.

        Raises:
            HFContrastError: The model has no text tower, or the data no captions.
        """
        rows = as_rows(data, image_column=image_column, caption_column=caption_column, captioned=True)
        mine, transform = share_out(rows), image_transform(processor)
        retrieval = Retrieval(lambda: caption_batches(mine, transform, batch_size), processor)
        if metric is None:
            return retrieval(model)
        images, texts, owners = retrieval.embed(model)
        parts = texts[owners.argsort(stable=True)].split(owners.bincount(minlength=len(images)).tolist())
        metric.add_batch(predictions=images.numpy(), references=[part.numpy() for part in parts])
        return metric.compute()


def evaluator(task: str) -> ZeroShotEvaluator | RetrievalEvaluator | DeclaredEvaluator:
    """The evaluator of a task: ``zero-shot-image-classification``, ``image-text-retrieval``, or the name of an installed evaluator.

    Raises:
        ValueError: There is no such task.
        PluginError: The evaluator cannot be used.
    """
    found: Any = {"zero-shot-image-classification": ZeroShotEvaluator, "image-text-retrieval": RetrievalEvaluator}
    if task in found:
        return found[task]()
    if task not in (names := installed()):
        raise ValueError(f"there is no evaluator for {task!r}; there are {', '.join([*found, *names])}")
    return DeclaredEvaluator(task)
