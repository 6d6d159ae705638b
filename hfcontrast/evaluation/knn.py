"""Weighted k-nearest-neighbor classification of frozen features (Wu et al., 2018, section 3.4; DINO's protocol)."""

import torch
from torch import Tensor
from torch.nn import functional as F

_VOTES = 1 << 26  # held at once: test images times classes


@torch.no_grad()
def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, k: int = 20, temperature: float = 0.07
) -> float:
    """Top-1 accuracy of a vote of the k most similar bank features, each weighted by exp(cosine similarity / temperature).

    Args:
        bank: (N, D) features of the training images.
        bank_labels: (N,) classes, 0 and up; rows with a negative one have none and are left out.
        queries: (M, D) features of the test images.
        query_labels: (M,), in the same way.
        k: Number of neighbors; the whole bank when that is smaller.
        temperature: Temperature of the weights.

    Returns:
        A share in [0, 1].

    Raises:
        ValueError: No row of the bank, or of the queries, has a label.
    """
    bank, bank_labels = bank[bank_labels >= 0], bank_labels[bank_labels >= 0]
    queries, query_labels = queries[query_labels >= 0], query_labels[query_labels >= 0]
    if not len(bank) or not len(queries):
        raise ValueError(f"kNN needs labeled rows: the bank has {len(bank)}, the queries {len(queries)}")
    bank, queries = F.normalize(bank.float(), dim=1), F.normalize(queries.float(), dim=1)
    classes, bank_classes = bank_labels.unique(return_inverse=True)  # labels may be any numbers, such as 2 ** 40
    k = min(k, len(bank))
    correct = 0
    rows = max(min(1024, _VOTES // len(classes)), 1)
    for part, labels in zip(queries.split(rows), query_labels.split(rows)):
        similarity, neighbors = (part @ bank.T).topk(k, dim=1)
        votes = torch.zeros(len(part), len(classes), device=part.device)
        # Relative to the nearest neighbor: the vote is the same, and no exponential overflows at a low temperature.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes.scatter_add_(1, bank_classes[neighbors], weights)
        correct += int((classes[votes.argmax(dim=1)] == labels).sum())
    return correct / len(queries)
