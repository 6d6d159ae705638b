"""Losses as pure functions of tensors, for use with or without the rest of the framework; a file is named after its losses.

They take the embeddings of the whole batch, without knowing of models, processes or epochs. Those that compare unit vectors normalize
them themselves; a zero vector stays zero, and its similarity with everything is 0. Large matrices of similarities are
computed in tiles (:mod:`hfcontrast.losses.tiles`).
"""

from .barlow_twins import barlow_twins
from .clip import clip_loss
from .colorization import annealed_mean, color_cross_entropy, rebalancing_weights, soft_encode
from .cpc import predictive_info_nce
from .dcl import decoupled
from .dino import dino_loss
from .feature_regression import feature_regression
from .ibot import ibot_loss
from .info_nce import info_nce
from .instdisc import instance_softmax
from .invaspread import invariant_spreading
from .koleo import koleo
from .moco import queue_info_nce
from .n_pair import n_pair
from .nce import nce, softmax_nce
from .negative_cosine import negative_cosine
from .nt_xent import nt_xent, nt_xent_memory
from .pairwise_contrastive import pairwise_contrastive
from .precision import full_precision
from .seed import seed_loss
from .siglip import siglip_loss
from .sigreg import sigreg
from .sinkhorn import sinkhorn, sinkhorn_center
from .supcon import supcon
from .swav import swapped_prediction
from .triplet import triplet
from .uniformity import alignment, uniformity
from .vicreg import vicreg

__all__ = [
    "alignment",
    "annealed_mean",
    "barlow_twins",
    "clip_loss",
    "color_cross_entropy",
    "decoupled",
    "dino_loss",
    "feature_regression",
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
    "seed_loss",
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
