"""Euclidean distances of a batch with labels, and means over some of its terms, for the losses of metric learning."""

import torch
from torch import Tensor


def euclidean_distances(embeddings: Tensor, labels: Tensor) -> Tensor:
    """(N, N) Euclidean distances; without a matrix product, which loses small distances to rounding."""
    if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1]:
        raise ValueError(f"embeddings (N, D) need labels (N,), got {tuple(embeddings.shape)}, {tuple(labels.shape)}")
    return torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")


def mean_where(losses: Tensor, counted: Tensor) -> Tensor:
    """Mean over the losses that are counted; 0, with a gradient of zero, where none is."""
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)
