"""Building blocks of methods: encoders, heads, moving averages, schedules, and what N processes share."""

from .bank import MemoryBank
from .batch_norm import GlobalBatchNorm, synchronise_batch_norm
from .collapse import effective_rank, feature_std
from .distributed import all_mean, all_sum, gather, rank, world_size
from .ema import MomentumUpdate, momentum_schedule
from .encoder import build_encoder, encode, feature_size
from .heads import DINOHead, MLPHead, Prototypes
from .labels import own_classes
from .queue import Queue
from .randomness import hash_numbers, sample_uniform, shared_generator
from .schedule import cosine, linear
from .standardised import StandardisedLinear
from .views import view_by_view

__all__ = [
    "DINOHead",
    "GlobalBatchNorm",
    "MLPHead",
    "MemoryBank",
    "MomentumUpdate",
    "Prototypes",
    "Queue",
    "StandardisedLinear",
    "all_mean",
    "all_sum",
    "build_encoder",
    "cosine",
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
    "sample_uniform",
    "shared_generator",
    "synchronise_batch_norm",
    "view_by_view",
    "world_size",
]
