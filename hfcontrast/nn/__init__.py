"""Building blocks of methods: encoders, heads, moving averages, schedules, and what N processes share."""

from .bank import MemoryBank
from .batch_norm import GlobalBatchNorm, synchronise_batch_norm
from .collapse import effective_rank, feature_std
from .colour_views import ColourViewsConfig, ColourViewsModel
from .context import FuturePredictor, GRUContext, MaskedConvContext
from .distributed import all_mean, all_sum, gather, rank, world_size
from .ema import MomentumUpdate, momentum_schedule
from .encoder import build_encoder, encode, feature_size
from .heads import DINOHead, MLPHead, Prototypes
from .kmeans import spherical_kmeans
from .labels import own_classes
from .masking import block_masks, crop_masks
from .negatives import chosen_products, sample_others
from .queue import Queue
from .randomness import hash_numbers, sample_uniform, shared_generator, shared_normal
from .schedule import cosine, linear
from .signal_encoder import SignalEncoderConfig, SignalEncoderModel
from .standardised import StandardisedLinear
from .views import view_by_view

__all__ = [
    "ColourViewsConfig",
    "ColourViewsModel",
    "DINOHead",
    "FuturePredictor",
    "GRUContext",
    "GlobalBatchNorm",
    "MLPHead",
    "MaskedConvContext",
    "MemoryBank",
    "MomentumUpdate",
    "Prototypes",
    "Queue",
    "SignalEncoderConfig",
    "SignalEncoderModel",
    "StandardisedLinear",
    "all_mean",
    "all_sum",
    "block_masks",
    "build_encoder",
    "chosen_products",
    "cosine",
    "crop_masks",
    "effective_rank",
    "encode",
    "feature_size",
    "feature_std",
    "gather",
    "hash_numbers",
    "linear",
    "momentum_schedule",
    "own_classes",
    "rank",
    "sample_others",
    "sample_uniform",
    "shared_generator",
    "shared_normal",
    "spherical_kmeans",
    "synchronise_batch_norm",
    "view_by_view",
    "world_size",
]
