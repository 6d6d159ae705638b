"""A small instance of every installed method, for the tests that go over all of them."""

import copy

from small_methods import SMALL

from hfcontrast.methods import registry
from hfcontrast.testing import TINY_BACKBONE, TINY_RESNET, build, random_batch

NAMES = [name for name, entry in registry.installed().items() if entry.distribution == "hfcontrast"]
VIT = {**TINY_BACKBONE, "model_type": "vit", "intermediate_size": 64}
_GPT = {"model_type": "imagegpt", "n_embd": 8, "n_layer": 2, "n_head": 1, "n_positions": 64}
_SETTINGS = {
    **SMALL,
    "byol": {"hidden_dim": 16, "projection_dim": 8},
    "cpc": {**SMALL["cpc"], "patch_size": 16, "stride": 8},
    "dino": {**SMALL["dino"], "head_batch_norm": True},
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
