"""Losses as pure functions of tensors, for use with or without the rest of the framework."""

from .clustering import sinkhorn, swapped_prediction
from .colorization import annealed_mean, color_cross_entropy, rebalancing_weights, soft_encode
from .contrastive import clip_loss, decoupled, info_nce, nt_xent, queue_info_nce, supcon
from .cpc import predictive_info_nce
from .distillation import dino_loss, ibot_loss, sinkhorn_center
from .gaussianity import sigreg
from .koleo import alignment, koleo, uniformity
from .metric import n_pair, pairwise_contrastive, triplet
from .moco import nt_xent_memory
from .nce import instance_softmax, invariant_spreading, nce, softmax_nce
from .precision import full_precision
from .redundancy import barlow_twins, vicreg
from .siamese import negative_cosine
from .siglip import siglip_loss

__all__ = [
    "alignment",
    "annealed_mean",
    "barlow_twins",
    "clip_loss",
    "color_cross_entropy",
    "decoupled",
    "dino_loss",
    "full_precision",
    "ibot_loss",
    "info_nce",
    "instance_softmax",
    "invariant_spreading",
    "koleo",
    "n_pair",
    "nce",
    "negative_cosine",
    "nt_xent",
    "nt_xent_memory",
    "pairwise_contrastive",
    "predictive_info_nce",
    "queue_info_nce",
    "rebalancing_weights",
    "siglip_loss",
    "sigreg",
    "sinkhorn",
    "sinkhorn_center",
    "soft_encode",
    "softmax_nce",
    "supcon",
    "swapped_prediction",
    "triplet",
    "uniformity",
    "vicreg",
]
