"""The warning that the embeddings of a run collapse."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..methods.base import Method
from ..nn.collapse import effective_rank, feature_std
from ..nn.distributed import gather

STD, RANK = 0.05, 1.5  # below either, all images have become alike
FEATURE_STD = 0.1  # of evaluated features, below which they may have collapsed
ROUNDED = 1e-3  # below which rounding errors of half precision may be all that differs
RANK_OF_IMAGES = 0.25  # of the number of images: features of that rank differ
BELOW_UNTRAINED = 0.5  # of the untrained encoder's figure, below which it has fallen
FRACTION = 0.2  # of the training that is let pass first: untrained encoders find all images alike too
PATIENCE = 5  # log lines in a row
_ROWS = 256  # embeddings that are looked at


@torch.no_grad()
def spread(embeddings: Tensor | None) -> dict[str, Tensor]:
    """``embedding_std`` and ``embedding_rank`` of the global batch's embeddings; nothing where there are too few.

    Args:
        embeddings: (B, ..., D) of this process; the first vector of every image is looked at.
    """
    if embeddings is None:
        return {}
    rows = gather(embeddings.detach().float().reshape(len(embeddings), -1, embeddings.shape[-1])[:, 0])[:_ROWS]
    if len(rows) < 4:
        return {}
    measured = {"embedding_std": feature_std(rows), "embedding_rank": effective_rank(rows)}
    return {name: torch.tensor(value, device=rows.device) for name, value in measured.items()}


class CollapseWatch:
    """Counts the log lines that look collapsed, and warns once.

    Args:
        method: The method, which knows what to change.
        name: What recipes call it.
    """

    def __init__(self, method: Method, name: str):
        self.method, self.name = method, name
        self.count, self.warned = 0, False

    def look(self, values: dict[str, float], fraction: float) -> str | None:
        """The warning, the first time that it is due.

        Args:
            values: A log line.
            fraction: Elapsed share of the training, in [0, 1].
        """
        std, rank = values.get("embedding_std"), values.get("embedding_rank")
        if std is None or rank is None or fraction < FRACTION:
            return None
        self.count = self.count + 1 if std < STD or rank < RANK else 0
        if self.count < PATIENCE or self.warned:
            return None
        self.warned = True
        return (
            f"warning: the embeddings of {self.name} have collapsed (standard deviation {std:.3f}, about 1 is healthy; "
            f"effective rank {rank:.1f}): all images look alike to it. What helps: {self.method.collapse_advice}"
        )


def features_collapsed(notes: Mapping[str, Any]) -> bool:
    """Whether a training has collapsed, by the figures of the evaluated features.

    A small standard deviation alone does not say so: of many random encoders, features have a large mean and differ little around it.

    Args:
        notes: The run's notes. ``trained`` has ``feature_std`` and ``effective_rank``, and ``untrained`` the same of the encoder
            before, if it was measured; ``counts`` has the number of images of the rank.
    """
    trained, before = notes.get("trained", {}), notes.get("untrained", {})
    std, rank = trained.get("feature_std", 1.0), trained.get("effective_rank")
    if std >= FEATURE_STD:
        return False
    if std < ROUNDED:
        rank = None  # that of rounding errors
    images = notes.get("counts", {}).get("effective_rank", {}).get("test_images")
    if rank is not None and images and rank >= images * RANK_OF_IMAGES:
        return False
    fell = [
        now < BELOW_UNTRAINED * before[key]
        for key, now in (("feature_std", std), ("effective_rank", rank))
        if now is not None and key in before
    ]
    return any(fell) if fell else True
