"""The evaluation that accompanies a training: accuracies where there are labels, and signs of collapse always."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..nn.collapse import effective_rank, feature_std
from .counts import label_counts
from .features import extract_features, join_processes
from .finetune import FineTuning, finetune_accuracy
from .knn import knn_accuracy
from .linear_probe import linear_accuracy
from .retrieval import Retrieval
from .zero_shot import ZeroShot

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]


class OnlineEvaluation:
    """Judges encoders on the same images again and again.

    Args:
        bank: Gives this process's share of the neighbors as batches of (pixel_values, labels); None without labels.
        queries: The same for the images that are judged.
        k: Neighbors that vote.
        temperature: Temperature of their votes.
        linear_probe: Whether a thorough evaluation fits a linear probe too.

    Attributes:
        finetuning: How a thorough evaluation fine-tunes encoders too; None: not at all.
        trained: Names of the parameters that fine-tuning trains; None: see ``finetune_accuracy``.
        zero_shot: Classification by the names of classes, by task; for models with a text tower.
        retrieval: Images by their captions and captions by their images; for models with a text tower.
        counts: Of the last evaluation: ``test_images``; with labels also ``train_images``, which have some, and
            ``near_duplicates``, further ones that were left out as they are near-duplicates of test images.
        conditions: What the scores depend on beside the encoder, as JSON by kinds of scores.
    """

    def __init__(
        self,
        bank: Batches | None,
        queries: Batches,
        k: int = 20,
        temperature: float = 0.07,
        linear_probe: bool = False,
    ):
        self.bank = bank
        self.queries = queries
        self.k = k
        self.temperature = temperature
        self.linear_probe = linear_probe
        self.finetuning: FineTuning | None = None
        self.trained: Collection[str] | None = None
        self.zero_shot: dict[str, ZeroShot] = {}
        self.retrieval: Retrieval | None = None
        self.conditions: dict[str, Any] = {}
        self.counts: dict[str, int] = {}

    def __call__(self, encoder: PreTrainedModel, thorough: bool = False) -> dict[str, float]:
        """``knn_accuracy`` in [0, 1] (with labels), ``feature_std`` and ``effective_rank`` of the queries' features.

        The last two are signs of a collapse: see ``hfcontrast.nn.collapse``. With a text tower also ``zero_shot_TASK``, and
        ``image_to_text_r1``, ... as :func:`~hfcontrast.evaluation.retrieval.retrieval_recall` gives them.

        Args:
            encoder: The encoder.
            thorough: Take the time for ``linear_accuracy`` and ``finetune_accuracy`` too, where they were asked for.
        """
        features, labels = extract_features(encoder, self.queries())
        scores = {}
        self.counts = {"test_images": len(features)}
        if self.bank is not None:
            bank, bank_labels = extract_features(encoder, self.bank())
            left_out = join_processes(torch.tensor([getattr(self.bank, "left_out", 0)])).sum()
            self.counts |= label_counts(labels, bank_labels, int(left_out))
            scores = self._accuracies(bank, bank_labels, features, labels, thorough, next(encoder.parameters()).device)
            if self.finetuning and thorough and scores:
                settings = (self.finetuning, self.trained)
                scores["finetune_accuracy"] = finetune_accuracy(encoder, self.bank, self.queries, *settings)
        for task, judge in self.zero_shot.items():
            same = judge.batches is self.queries  # then the features are there already
            scores[f"zero_shot_{task}"] = (judge.score(encoder, features, labels) if same else judge(encoder))["top1"]
        scores |= self.retrieval(encoder) if self.retrieval else {}
        scores["feature_std"] = feature_std(features)
        scores["effective_rank"] = effective_rank(features[:2048])
        return scores

    def missing(self, scores: dict[str, float]) -> list[str]:
        """Names of scores that a thorough evaluation gives today, and that former ones of such an evaluation lack."""
        asked = {"linear_accuracy": self.linear_probe, "finetune_accuracy": self.finetuning}
        labeled = "knn_accuracy" in scores
        return [name for name, wanted in asked.items() if wanted and labeled and name not in scores]

    def raw_pixels(self, device: torch.device) -> dict[str, float]:
        """The accuracies of the pixels themselves, which cannot be fine-tuned; none without labels. A linear probe is fitted on the device."""
        if self.bank is None:
            return {}
        return self._accuracies(*_flat_pixels(self.bank()), *_flat_pixels(self.queries()), True, device)

    def _accuracies(
        self,
        bank: Tensor,
        bank_labels: Tensor,
        queries: Tensor,
        labels: Tensor,
        thorough: bool,
        device: torch.device,
    ) -> dict[str, float]:
        """What the features say of the labels; nothing where either has none: test splits without labels hold -1 everywhere."""
        if not ((bank_labels >= 0).any() and (labels >= 0).any()):
            return {}
        scores = {"knn_accuracy": knn_accuracy(bank, bank_labels, queries, labels, self.k, self.temperature)}
        if self.linear_probe and thorough:
            fast = device if device.type == "cuda" else "cpu"  # others have no float64
            rows = (part.to(fast) for part in (bank, bank_labels, queries, labels))
            scores["linear_accuracy"] = linear_accuracy(*rows)
        return scores


def _flat_pixels(batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Pixels of images at most 32 px wide (larger ones are averaged down to that), one row an image."""
    pixels, labels = [], []
    for images, targets in batches:
        if images.shape[-1] > 32:
            images = torch.nn.functional.adaptive_avg_pool2d(images, 32)
        pixels.append(images.flatten(1))
        labels.append(targets)
    width = int(join_processes(torch.tensor([pixels[0].shape[1] if pixels else 0])).max())  # a share may be empty
    pixels.append(torch.zeros(0, width))
    labels.append(torch.zeros(0, dtype=torch.long))
    return join_processes(torch.cat(pixels)), join_processes(torch.cat(labels))
