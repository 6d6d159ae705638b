"""Losses as pure functions of tensors, for use with or without the rest of the framework."""

from .clustering import sinkhorn, swapped_prediction
from .contrastive import clip_loss, decoupled, info_nce, nt_xent, queue_info_nce, supcon
from .distillation import dino_loss
from .metric import n_pair, pairwise_contrastive, triplet
from .precision import full_precision
from .redundancy import barlow_twins, vicreg
from .siamese import negative_cosine
from .spread import alignment, koleo, uniformity

__all__ = [
    "alignment",
    "barlow_twins",
    "clip_loss",
    "decoupled",
    "dino_loss",
    "full_precision",
    "info_nce",
    "koleo",
    "n_pair",
    "negative_cosine",
    "nt_xent",
    "pairwise_contrastive",
    "queue_info_nce",
    "sinkhorn",
    "supcon",
    "swapped_prediction",
    "triplet",
    "uniformity",
    "vicreg",
]
