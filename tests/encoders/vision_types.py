"""A tiny configuration of every architecture that takes images: of transformers by its model_type, of timm by its family.

Most follow from the default configuration: depths become 1 or 2, widths a fraction of themselves, tables a few rows. What does
not follow stands in ``OVERRIDES``.
"""

import inspect
import re
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedConfig, PreTrainedModel

import hfcontrast.encoders  # noqa: F401 (so that transformers knows its architectures, which are not those of this module)
from hfcontrast.encoders.config import OWN, PAIR

SIZE = (
    64  # side of the images in pixels, for all of them: what halves the resolution five times still has a map of 2 x 2
)
_DEPTH = re.compile(
    r"(^|_)(num_)?(hidden_)?(layers|depths?|(?<!encoder_)blocks|block_repeats|blocks_per_stage)$|^n_layers?$"
)
_WIDTH = re.compile(
    r"(size|dims?|d_model|width|channels|embed|hidden|planes|inner|attn_unit_dims|n_embd|lora_rank|channel_list)$"
    r"|^embed_dim|^hidden_|_dim_|intermediate|ffn|feedforward|channels"
)
_NO_WIDTH = re.compile(
    r"image|img|patch|window|kernel|vocab|num_channels|pool|stride|merge|chunk|group|grid|padding|crop|token"
)
_IN_IMAGE = re.compile(r"^(in_channels|num_channels|channels)$")
_HEADS = re.compile(r"heads|n_head$")
_ROWS = re.compile(r"vocab_size|vocabulary|max_position_embeddings$|num_queries|num_.*_labels|head_out_channels")
_EXPERTS = re.compile(r"experts$")
_INDICES = re.compile(r"(indexes|indices|_idxs|hook_ids|layer_id|attention_blocks)$")


def model_types() -> list[str]:
    """transformers' names of all architectures that ``AutoModel`` builds and whose models take ``pixel_values``."""
    return [name for name in CONFIG_MAPPING if name not in OWN and takes_images(name)]


def takes_images(model_type: str) -> bool:
    """Whether ``AutoModel`` builds models of an architecture, and these take ``pixel_values``."""
    model = model_class(model_type)
    return model is not None and "pixel_values" in inspect.signature(model.forward).parameters


def model_class(model_type: str) -> type[PreTrainedModel] | None:
    """What ``AutoModel`` builds; None where it builds nothing, or nothing without packages that are not there."""
    try:
        found = MODEL_MAPPING[CONFIG_MAPPING[model_type]]
        found = found[0] if isinstance(found, tuple) else found
        return found if found.forward else None
    except (KeyError, ValueError, ImportError):
        return None


def takes_only_images(model_type: str) -> bool:
    """Whether the models of an architecture are called with images alone: nothing else comes first or has no default."""
    parameters = list(inspect.signature(model_class(model_type).forward).parameters.values())[1:]
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return parameters[0].name == "pixel_values" and set(needed) <= {"pixel_values"}


def has_two_towers(model_type: str) -> bool:
    """Whether the models of an architecture map images and texts into one space."""
    model = model_class(model_type)
    return hasattr(model, "get_image_features") and hasattr(model, "get_text_features")


def tiny_backbone(model_type: str) -> dict[str, Any]:
    """The backbone of a recipe with a tiny model of an architecture, for images of :data:`SIZE` pixels.

    Args:
        model_type: transformers' name of it.

    Returns:
        ``model_type`` and fields, those of configurations within it as mappings. ``model_type`` alone of architectures whose
        models need more than images (texts, prompts, grids of patches), and are not two towers: nothing of them is built.
    """
    if not takes_only_images(model_type) and not has_two_towers(model_type):
        return {"model_type": model_type}
    if model_type == PAIR:
        return {
            "model_type": PAIR,
            "projection_dim": 8,
            "vision": tiny_backbone("vit"),
            "text": tiny_text_backbone("bert"),
        }
    fields = _small(CONFIG_MAPPING[model_type]())
    return {"model_type": model_type, **_merged(fields, OVERRIDES.get(model_type, {}))}


def tiny_towers(model_type: str) -> dict[str, Any]:
    """The same of a model with two towers, without what follows from a tokenizer: the table of words and the ids of tokens."""
    backbone = tiny_backbone(model_type)
    return {name: _without_words(part) if name == "text_config" else part for name, part in backbone.items()}


def _without_words(fields: dict[str, Any]) -> dict[str, Any]:
    left_out = re.compile(r"vocab_size|max_position_embeddings|_token_id$|projection_size|^model_type$")
    return {name: value for name, value in fields.items() if not left_out.search(name)}


def tiny_text_backbone(model_type: str) -> dict[str, Any]:
    """The same for a text tower; the tokenizer says what its table of words needs."""
    return {"model_type": model_type, **_without_words(_small(CONFIG_MAPPING[model_type]()))}


def _merged(fields: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Fields with others over them; None leaves a field out."""
    found = dict(fields)
    for name, value in own.items():
        if isinstance(value, dict) and isinstance(found.get(name), dict) and "model_type" not in value:
            value = _merged(found[name], value)
        found[name] = value
    return {name: value for name, value in found.items() if value is not None}


def _small(default: PreTrainedConfig, within: bool = False) -> dict[str, Any]:
    """The fields in which a small configuration differs from what its class has by default."""
    names = [n for n in default.__dataclass_fields__ if n not in PreTrainedConfig.__dataclass_fields__ and n[0] != "_"]
    values = {name: getattr(default, name, None) for name in names}
    small = {name: _small_value(name, value) for name, value in values.items()}
    depth = next((value for name, value in small.items() if _DEPTH.search(name) and isinstance(value, int)), None)
    for name, value in values.items():
        if depth and isinstance(value, list | tuple) and _INDICES.search(name):
            small[name] = list(range(depth))[-len(value) :]
        elif depth and name == "layer_types" and isinstance(value, list):
            small[name] = list(dict.fromkeys(value))[-depth:] if len(set(value)) >= depth else value[:depth]
    if within and "image_size" in names:
        small["image_size"] = SIZE
    if within and getattr(default, "out_features", None) and default.out_features != [default.stage_names[-1]]:
        small["out_features"] = default.out_features if depth is None else [f"stage{depth}"]
    usual = type(default)()
    return {
        name: value
        for name, value in small.items()
        if isinstance(values.get(name), PreTrainedConfig) or value != _listed(getattr(usual, name, None))
    }


def _listed(value: Any) -> Any:
    return [_listed(part) for part in value] if isinstance(value, list | tuple) else value


def _small_value(name: str, value: Any) -> Any:
    if isinstance(value, PreTrainedConfig):
        known = {"model_type": value.model_type} if value.model_type in CONFIG_MAPPING else {}
        return {**known, **_merged(_small(value, within=True), OVERRIDES.get(value.model_type, {}))}
    if isinstance(value, list | tuple):
        return [_small_value(name, part) for part in value]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if _ROWS.search(name):
        return min(value, 12)
    if name.endswith(("_token_id", "_token_index")):
        return min(value, 11)
    if _EXPERTS.search(name):
        return min(value, 2)
    if _DEPTH.search(name):
        return min(value, 2)
    if _HEADS.search(name):
        return min(value, 2)
    if name == "patch_size" and SIZE % value:
        return 16
    if _WIDTH.search(name) and not _NO_WIDTH.search(name) and not _IN_IMAGE.search(name) and value > 8:
        return max(value // 8 // 4 * 4, 8)
    return value


_STAGES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
_RESNET = {"model_type": "resnet", **_STAGES, "out_features": ["stage4"]}
_DETECTOR_WITH_RESNET = {"backbone_config": _RESNET}
_LEVELS = [[16, 16], [8, 8], [4, 4]]
_SMALL_PATCHES = {"hidden_size": 24, "num_hidden_layers": 12, "image_size": 16, "patch_size": 4}
_PROMPTED = {"vision_config": {"num_pos_feats": 16}}
_PROMPTED_IN_LEVELS = {"vision_config": {"backbone_feature_sizes": _LEVELS}}
_NARROW = {
    "width_coefficient": 0.25,
    "depth_coefficient": 0.3,
    "in_channels": None,
    "out_channels": None,
    "num_block_repeats": None,
    "hidden_dim": 320,  # 1280 times the width
}
OVERRIDES: dict[str, dict[str, Any]] = {
    "align": {"vision_config": _NARROW},
    "bit": {"num_groups": 4},
    "conditional_detr": _DETECTOR_WITH_RESNET,
    "cvt": {"depth": [1, 2, 3]},
    "dab-detr": _DETECTOR_WITH_RESNET,
    "deformable_detr": {**_DETECTOR_WITH_RESNET, "num_feature_levels": 1},
    "depth_pro": {
        "patch_size": 16,
        "fusion_hidden_size": None,
        "intermediate_hook_ids": None,
        "intermediate_feature_dims": None,
        **dict.fromkeys(("image_model_config", "patch_model_config", "fov_model_config"), _SMALL_PATCHES),
    },
    "detr": _DETECTOR_WITH_RESNET,
    "hiera": {"patch_size": None},  # patches overlap: they are wider than their stride
    "donut-swin": {"window_size": 2},
    "efficientnet": _NARROW,
    "edgetam_vision_model": {
        "backbone_config": {"num_classes": 0, "model_args": {"features_only": True, "out_indices": [1, 2, 3, 4]}},
        "backbone_channel_list": [96, 192, 48, 32],
        "backbone_feature_sizes": _LEVELS,
    },
    "efficientloftr": {"out_features": [8, 8, 16, 32]},
    "groupvit": {"vision_config": {"num_hidden_layers": None}},
    "gemma3n_vision": {"architecture": "test_efficientnet", "model_args": {}},
    "lw_detr": {"projector_scale_factors": [1.0]},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.35},
    "pp_lcnet_v4": {"stem_channels": None},
    "sam": _PROMPTED,
    "sam2": _PROMPTED_IN_LEVELS,
    "sam2_vision_model": {"backbone_feature_sizes": _LEVELS},
    "sam3_tracker": _PROMPTED_IN_LEVELS,
    "sam_hq": _PROMPTED,
    "swin": {"window_size": 2},
    "table-transformer": _DETECTOR_WITH_RESNET,
    "timm_backbone": {"backbone": "test_resnet"},
    "timm_wrapper": {"architecture": "test_resnet", "model_args": {}},
}
