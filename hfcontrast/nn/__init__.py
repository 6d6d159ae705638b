"""Building blocks of methods: encoders, heads, moving averages, schedules, and what N processes share."""

from .batch_norm import GlobalBatchNorm, synchronise_batch_norm
from .distributed import all_mean, all_sum, gather, rank, world_size
from .ema import MomentumUpdate, momentum_schedule
from .encoder import build_encoder, encode, feature_size
from .heads import DINOHead, MLPHead, Prototypes
from .schedule import cosine, linear

__all__ = [
    "DINOHead",
    "GlobalBatchNorm",
    "MLPHead",
    "MomentumUpdate",
    "Prototypes",
    "all_mean",
    "all_sum",
    "build_encoder",
    "cosine",
    "encode",
    "feature_size",
    "gather",
    "linear",
    "momentum_schedule",
    "rank",
    "synchronise_batch_norm",
    "world_size",
]
