"""A small model of every family of timm, which is a file of ``timm.models``.

The smallest architecture of a family is mostly told by its name; where it is large all the same, arguments in ``SMALL`` make it
smaller, and where the names do not tell it stands there.
"""

import re
from typing import Any

import timm
from timm.models import _registry

_SMALL_NAMES = (
    r"^test_",
    r"(atto|pico|nano|xxs|xx_small|xxtiny|_050|_s050|_b0|_t0|_m0|_s0|_002)(_|$)",
    r"(tiny|xs|xtiny|femto|lite)",
    r"(small|_s\d*|_t\d*|18|_n|_m1)(_|$)",
)
_TOKENS = {"embed_dim": 32, "depth": 1, "num_heads": 2}
_DEPTHS = {"depths": [1, 1, 1, 1]}
_WIDTHS = [16, 16, 32, 32]
_WINDOWS = {"embed_dim": 16, **_DEPTHS, "num_heads": [1, 1, 2, 2]}
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "beit": ("beit_base_patch16_224", _TOKENS),
    "byoanet": ("lambda_resnet26t", {}),
    "cait": ("cait_xxs24_224", _TOKENS),
    "convit": ("convit_tiny", _TOKENS),
    "davit": ("davit_tiny", _DEPTHS),
    "deepseek_vit": ("deepseek_vit_412m", {**_TOKENS, "patch_size": 16}),
    "deit": ("deit_tiny_patch16_224", _TOKENS),
    "dla": ("dla46x_c", {}),
    "dpn": ("dpn48b", {}),
    "efficientformer": ("efficientformer_l1", _DEPTHS),
    "eva": ("vit_tiny_patch16_dinov3_qkvb", _TOKENS),
    "gemma4_vit": ("gemma4_vit_167m", _TOKENS),
    "inception_next": ("inception_next_atto", {}),
    "levit": ("levit_128s", {"embed_dim": [16, 16, 32], "depth": [1, 1, 1], "num_heads": [1, 2, 2]}),
    "mobilenetv3": ("lcnet_050", {}),
    "mobilenetv5": ("mobilenetv5_base", {"channel_multiplier": 0.25}),
    "naflexvit": ("naflexvit_base_patch16_gap", _TOKENS),
    "nasnet": ("nasnetalarge", {}),
    "pit": ("pit_xs_224", {"base_dims": [16, 16, 16], "depth": [1, 1, 1], "heads": [1, 1, 1]}),
    "qwen3_vit": ("qwen3_vit_306m", _TOKENS),
    "res2net": ("res2next50", {"channels": _WIDTHS}),
    "resnest": ("resnest14d", {"stem_width": 8, "channels": _WIDTHS}),
    "resnetv2": ("resnetv2_18", {"channels": _WIDTHS}),
    "senet": ("legacy_seresnet18", {"layers": [1, 1, 1, 1]}),
    "sequencer": ("sequencer2d_s", {"layers": [1, 1, 1, 1]}),
    "sknet": ("skresnet18", {"channels": _WIDTHS}),
    "swin_transformer": ("swin_s3_tiny_224", _WINDOWS),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", _WINDOWS),
    "swin_transformer_v2_cr": ("swinv2_cr_small_224", _WINDOWS),
    "tiny_vit": ("tiny_vit_11m_224", {"embed_dims": _WIDTHS, **_DEPTHS, "num_heads": [1, 1, 2, 2]}),
    "tnt": ("tnt_s_legacy_patch16_224", {"depth": 1}),
    "tresnet": ("tresnet_m", {"width_factor": 0.25}),
    "twins": ("twins_svt_small", {"embed_dims": _WIDTHS, **_DEPTHS}),
    "vgg": ("vgg11", {"mlp_ratio": 0.05}),
    "visformer": ("visformer_tiny", _TOKENS),
    "vision_transformer_hybrid": ("vit_base_r50_s16_224", _TOKENS),
    "vision_transformer_sam": ("samvit_base_patch16_224", _TOKENS),
    "vitamin": ("vitamin_small_224", {"depth": 1}),
}
# Sides of the images in pixels of those that cannot take small ones.
SIZES = {"crossvit": 240, "efficientformer": 224, "inception_resnet_v2": 128, "inception_v3": 128, "inception_v4": 128}


def timm_families() -> list[str]:
    """The families of timm, by the names of its modules."""
    return sorted(_registry._module_to_models)


def tiny_timm(family: str) -> dict[str, Any]:
    """The backbone of a recipe with a small model of a family of timm.

    Args:
        family: Such as ``vision_transformer``.
    """
    names = sorted(timm.list_models(module=family))
    guessed = next((name for kind in _SMALL_NAMES for name in names if re.search(kind, name)), names[0])
    architecture, arguments = SMALL.get(family, (guessed, {}))
    return {"model_type": "timm_wrapper", "architecture": architecture, "model_args": arguments}
