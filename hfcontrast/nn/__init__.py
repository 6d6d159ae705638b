"""Building blocks that several methods share: heads, moving averages, queues, memory banks, masks, and gathering over processes."""

from .batch_norm import GlobalBatchNorm, synchronize_batch_norm
from .collapse import effective_rank, feature_std
from .distributed import all_mean, all_sum, gather, mean_of_terms, rank, world_size
from .ema import MomentumUpdate, momentum_schedule
from .heads import DINOHead, MLPHead, Prototypes
from .labels import own_classes
from .masks.blocks import block_masks
from .memory_bank import MemoryBank
from .negatives import chosen_products, sample_others
from .queue import Queue
from .random import hash_numbers, sample_uniform, shared_generator, shared_normal
from .schedule import cosine, linear
from .standardized import StandardizedLinear
from .views import view_by_view

__all__ = [
    "DINOHead",
    "GlobalBatchNorm",
    "MLPHead",
    "MemoryBank",
    "MomentumUpdate",
    "Prototypes",
    "Queue",
    "StandardizedLinear",
    "all_mean",
    "all_sum",
    "block_masks",
    "chosen_products",
    "cosine",
    "effective_rank",
    "feature_std",
    "gather",
    "hash_numbers",
    "linear",
    "mean_of_terms",
    "momentum_schedule",
    "own_classes",
    "rank",
    "sample_others",
    "sample_uniform",
    "shared_generator",
    "shared_normal",
    "synchronize_batch_norm",
    "view_by_view",
    "world_size",
]
