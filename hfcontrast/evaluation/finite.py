"""Features that are not finite numbers: train images with such features are left out, test images with them count as wrong."""

import torch
from torch import Tensor


def finite(features: Tensor) -> Tensor:
    """(N,) whether all numbers of a row are finite, of features (N, D)."""
    return features.isfinite().all(dim=1)


def finite_train(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The train images whose features are finite: features (N, D) and labels (N,)."""
    good = finite(features)
    return (features, labels) if good.all() else (features[good], labels[good])


def wrong_test(features: Tensor, labels: Tensor, train_labels: Tensor) -> tuple[Tensor, Tensor]:
    """The test images, where those whose features are not finite have features of zeros and a class that no train image has.

    So any classifier that is fitted to train images counts them as wrong. Images without a label stay without one.

    Args:
        features: (M, D).
        labels: (M,).
        train_labels: (N,), 0 and up, or below where there is none.
    """
    bad = ~finite(features)
    if not bad.any():
        return features, labels
    known = train_labels[train_labels >= 0].unique()
    gaps = (known != torch.arange(len(known), device=known.device)).nonzero()
    free = int(gaps[0]) if len(gaps) else len(known)
    return features.masked_fill(bad[:, None], 0), labels.masked_fill(bad & (labels >= 0), free)
