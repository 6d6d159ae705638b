"""A small instance of every installed method, for the tests that go over all of them."""

import copy

from hfcontrast.methods import registry
from hfcontrast.testing import TINY_BACKBONE, TINY_RESNET, build, random_batch

NAMES = [name for name, entry in registry.installed().items() if entry.distribution == "hfcontrast"]
VIT = {**TINY_BACKBONE, "model_type": "vit", "intermediate_size": 64}
_DISTILLATION = {"out_dim": 16, "hidden_dim": 16, "bottleneck_dim": 8}
_GPT = {"model_type": "imagegpt", "n_embd": 8, "n_layer": 2, "n_head": 1, "n_positions": 64}
_SETTINGS = {
    "aim": {"head_blocks": 1, "head_width": 8},
    "barlow_twins": {"hidden_dim": 16, "projection_dim": 16},
    "byol": {"hidden_dim": 16, "projection_dim": 8},
    "cmc": {"negatives": 8},
    "colorization": {"decoder_dim": 8},
    "cpc": {"patch_size": 16, "stride": 8, "patch_jitter": 0, "prediction_steps": 1, "context_dim": 8, "target_dim": 8},
    "data2vec": {"average_top_k_layers": 1, "min_block": 2},
    "deepcluster_v2": {"prototypes": [4, 3], "hidden_dim": 16, "projection_dim": 8},
    "dino": {**_DISTILLATION, "head_batch_norm": True},
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
    "swav": {"prototypes": 12, "hidden_dim": 16, "projection_dim": 8, "queue_length": 16},
    "vicreg": {"hidden_dim": 16, "projection_dim": 16},
}
_ENCODERS = {
    "aim": VIT,
    "data2vec": {**VIT, "model_type": "data2vec-vision", "drop_path_rate": 0.0},
    "igpt": {**_GPT, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "ijepa": {**VIT, "model_type": "ijepa"},
    "mae": {**VIT, "model_type": "vit_mae"},
    "simmim": VIT,
    "moco_v3": VIT,
    # Convolutional encoders have running statistics.
    "moco_v2": TINY_RESNET,
    "swav": TINY_RESNET,
    "cmc": TINY_RESNET,
}


def small(name, **settings):
    """The method in training mode, always with the same weights."""
    return build(
        registry.get_method(name), copy.deepcopy(_ENCODERS.get(name)), **{**_SETTINGS.get(name, {}), **settings}
    )


def batch_of(name, images=4):
    """A batch for it: views, labels, indices and captions."""
    batch = random_batch(registry.get_method(name), images, size=8 if name == "igpt" else 32)
    if name == "cpc":
        batch["pixel_values"] = batch["pixel_values"][:, :1]
    return batch
