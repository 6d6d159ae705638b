"""The evaluation that accompanies a training: kNN accuracy where there are labels, and signs of collapse always."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..nn.collapse import effective_rank, feature_std
from .features import extract_features, join_processes
from .knn import knn_accuracy

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]


class OnlineEvaluation:
    """Judges encoders on the same images again and again.

    Args:
        bank: Gives this process's share of the neighbours as batches of (pixel_values, labels); None without labels.
        queries: The same for the images that are judged.
        k: Neighbours that vote.
        temperature: Temperature of their votes.
    """

    def __init__(self, bank: Batches | None, queries: Batches, k: int = 20, temperature: float = 0.07):
        self.bank = bank
        self.queries = queries
        self.k = k
        self.temperature = temperature

    def __call__(self, encoder: PreTrainedModel) -> dict[str, float]:
        """``knn_accuracy`` in [0, 1] (with labels), ``feature_std`` and ``effective_rank`` of the queries' features.

        The last two are signs of a collapse: see ``hfcontrast.nn.collapse``.
        """
        features, labels = extract_features(encoder, self.queries())
        scores = {}
        if self.bank is not None:
            bank, bank_labels = extract_features(encoder, self.bank())
            if _some_labelled(bank_labels, labels):
                scores["knn_accuracy"] = knn_accuracy(bank, bank_labels, features, labels, self.k, self.temperature)
        scores["feature_std"] = feature_std(features)
        scores["effective_rank"] = effective_rank(features[:2048])
        return scores

    def raw_pixels(self) -> float | None:
        """kNN accuracy of the pixels themselves; None without labels."""
        if self.bank is None:
            return None
        bank, bank_labels = _flat_pixels(self.bank())
        queries, labels = _flat_pixels(self.queries())
        if not _some_labelled(bank_labels, labels):
            return None
        return knn_accuracy(bank, bank_labels, queries, labels, self.k, self.temperature)


def _some_labelled(*labels: Tensor) -> bool:
    """Whether each has labels: test splits without any hold -1 everywhere."""
    return all(bool((part >= 0).any()) for part in labels)


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
