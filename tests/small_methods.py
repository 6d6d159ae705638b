"""Settings that make every built-in method small, for the tests that go over all of them."""

from hfcontrast.testing import TINY_RESNET

# What makes a method small, and its views where half and quarter size would not do. A new method needs a line only
# where its own settings are too large for 32 images.
_DISTILLATION = {"out_dim": 32, "hidden_dim": 16, "bottleneck_dim": 8}
SMALL = {
    "aim": {"head_blocks": 1, "head_width": 8},
    "barlow_twins": {"hidden_dim": 16, "projection_dim": 16},
    "byol": {"hidden_dim": 32},
    "cmc": {"negatives": 8},
    "colorization": {"decoder_dim": 8},
    "cpc": {"patch_size": 8, "stride": 4, "patch_jitter": 0, "prediction_steps": 1, "context_dim": 8, "target_dim": 8},
    "data2vec": {"average_top_k_layers": 1, "min_block": 2},
    "deepcluster_v2": {"prototypes": [4, 3], "hidden_dim": 16, "projection_dim": 8},
    "dino": _DISTILLATION,
    "dinov2": _DISTILLATION,
    "distill": {"teacher": TINY_RESNET, "relational_weight": 1.0, "queue_size": 20, "hidden_dim": 16},
    "igpt": {"num_clusters": 4},
    "ijepa": {"predictor_width": 8, "predictor_depth": 1},
    "instdisc": {"negatives": 8},
    "jigsaw": {"permutations": 12, "tile_dim": 8, "hidden_dim": 16},
    "lejepa": {"hidden_dim": 16, "projection_dim": 8, "num_slices": 16},
    "mae": {"decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2},
    "moco": {"queue_size": 20},
    "moco_v2": {"queue_size": 20, "hidden_dim": 16},
    "moco_v3": {"hidden_dim": 16, "projection_dim": 8},
    "nnclr": {"queue_size": 20, "hidden_dim": 16, "predictor_dim": 16, "projection_dim": 8},
    "pirl": {"negatives": 8},
    "relative_patch": {"hidden_dim": 16},
    "simclr_v2": {"memory": True, "memory_size": 20},
    "simmim": {"mask_patch_size": 8},
    "simsiam": {"projection_dim": 16, "predictor_dim": 4},
    "supcon": {"hidden_dim": 16, "projection_dim": 8},
    "swav": {"prototypes": 12, "hidden_dim": 16, "projection_dim": 8, "queue_length": 16, "queue_start_epoch": 0},
    "vicreg": {"hidden_dim": 16, "projection_dim": 16},
}
