"""Facts of architectures, an entry each: tokens and features, what is built, how layers are found, what is published.

Where no entry says otherwise, an architecture is as most of transformers' vision models are (:class:`Family`'s defaults). To add
one is to add an entry to ``_ENTRIES``, or for an architecture of a plugin's own to call :func:`register_family`.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import ArgumentError
from . import pixel_sequence, size_rules, timm_models, vit_mae
from .clip_initialization import initialize_towers
from .config import PAIR, TIMM
from .family import Family
from .two_towers import image_features, is_two_towers


def _width_of_towers(encoder: PreTrainedModel) -> int | None:
    tower = getattr(encoder.config, "vision_config", None)
    return getattr(encoder.config, "projection_dim", None) or getattr(tower, "hidden_size", None)


def _depth_gives_sizes(fields: dict[str, Any], image_size: int) -> None:
    if given := sorted({"depths", "hidden_sizes", "layer_type"} & set(fields)):
        raise ArgumentError(
            f"small_resnet takes its {', '.join(given)} from depth (18, 34 or 50): leave them out, or use model_type: resnet "
            "for other sizes"
        )


def _initialize_views(encoder: PreTrainedModel, config: PreTrainedConfig) -> None:
    """Of color views that are ViTMAEs; the others have been drawn when they were built."""
    for view in encoder.encoders:
        if family_of(view) is _VIT_MAE:
            vit_mae.initialize_mae_embeddings(view)


def _measured(encoder: PreTrainedModel) -> None:
    """The width of what other fields call hidden_size or hidden_sizes is not that of the features: one image says it."""


def _concatenated_tokens(encoder: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """Of Pixtral, which puts the patches of all images into one sequence: (1, N * T, D)."""
    return encoder(pixel_values).last_hidden_state[0].unflatten(0, (len(pixel_values), -1)).mean(1)


_USUAL = Family()
_TWO_TOWERS = Family(
    features=image_features,
    expression="model.get_image_features(pixel_values=pixel_values).pooler_output",
    width=_width_of_towers,
    initialize=lambda encoder, config: initialize_towers(encoder),
    image_processor="CLIPImageProcessor",
)
_VIT_MAE = Family(
    ("vit_mae",),
    as_vit=True,
    arguments=vit_mae.in_order,
    configure=vit_mae.hide_nothing,
    initialize=lambda encoder, config: vit_mae.initialize_mae_embeddings(encoder),
    published=vit_mae.vit_of_mae,
)
_ENTRIES = (
    Family(("vit",), class_tokens=1, as_vit=True),
    _VIT_MAE,
    Family(("ijepa",), class_tokens=0, pools_patches=True, as_vit=True, classified=lambda config: "token_mean"),
    Family(
        ("imagegpt",),
        class_tokens=0,
        pools_patches=True,
        features=pixel_sequence.pixel_features,
        expression=pixel_sequence.EXPRESSION,
        settle_fields=pixel_sequence.a_token_each_pixel,
        from_processor=pixel_sequence.take_colors,
        initialize=pixel_sequence.train_without_start,
        align=pixel_sequence.move_start_to_end,
        image_processor="ImageGPTImageProcessor",
        processor_settings=pixel_sequence.token_processor_settings,
    ),
    Family(
        ("beit", "data2vec-vision"),
        classified=lambda config: "token_mean" if config.use_mean_pooling else "class_token",
    ),
    Family(("dinov2", "dinov2_with_registers"), classified=lambda config: "both"),
    Family(("hiera",), class_tokens=0, keeps_pooler=True, size_problem=size_rules.hiera_units),
    Family(("swin", "donut-swin", "maskformer-swin"), size_problem=size_rules.swin_windows),
    Family(("radio",), pooled_output=".summary", width=_measured),
    Family(
        ("pixtral",),
        features=_concatenated_tokens,
        expression="outputs.last_hidden_state[0].unflatten(0, (len(pixel_values), -1)).mean(1)",
    ),
    Family(("granite_docling_vision",), class_tokens=0, pools_patches=True, unused=r"^connector\."),
    Family(
        ("mobilevit", "sam_hq_vision_model", "sam_vision_model"),
        width=_measured,
    ),
    Family(("pp_ocrv5_mobile_rec",), width=_measured, size_problem=partial(size_rules.at_least, 65)),
    Family(
        ("pp_ocrv5_server_rec", "pp_ocrv6_small_rec", "pp_ocrv6_tiny_rec"),
        width=_measured,
        size_problem=partial(size_rules.at_least, 33),
    ),
    Family(("sam2_hiera_det_model",), width=_measured, channels_last=lambda encoder: True),
    Family(("sam2_vision_model",), width=_measured, channels_last=lambda encoder: True, unused=r"^neck\."),
    Family(("sam3_vision_model",), unused=r"^neck\."),
    Family(("edgetam_vision_model",), width=_measured, channels_last=lambda encoder: True, unused=r"^neck\."),
    Family(
        ("conditional_detr", "d_fine", "dab-detr", "deformable_detr", "deimv2", "detr", "grounding-dino", "lw_detr")
        + ("mm-grounding-dino", "pp_doclayout_v3", "pp_doclayout_v4", "rf_detr", "rt_detr", "rt_detr_v2")
        + ("table-transformer",),
        refusal="describes the objects that its queries find, not the image",
    ),
    Family(
        ("edgetam", "mask2former", "maskformer", "oneformer", "sam", "sam2", "sam3", "sam3_lite_text", "sam3_tracker")
        + ("sam_hq", "seggpt"),
        refusal="gives masks, not features of the image",
    ),
    Family(
        ("timesformer", "videomae", "vivit"),
        refusal="takes videos, pixel_values of five dimensions, and not images",
    ),
    Family(("timm_backbone",), refusal="cannot be loaded from a folder once it is published"),
    Family(("efficientloftr", "lightglue"), refusal="takes pairs of images and compares their points"),
    Family(("kosmos-2",), refusal="takes texts beside the images"),
    Family(
        ("pp_ocrv6_medium_det", "pp_ocrv6_small_det"),
        refusal="finds where texts are in an image, and gives no features of it",
    ),
    Family(("uvdoc",), refusal="computes how the photograph of a page is made flat, and gives no features of it"),
    Family(("mgp-str",), refusal="reads characters in an image, and gives no features of it"),
    Family(
        ("minicpm_ocr_vision", "minicpmv4_7_vision", "siglip2_vision_model"),
        refusal="takes patches of images of several sizes with their positions, and not images",
    ),
    Family(
        (TIMM,),
        width=timm_models.timm_width,
        patch=timm_models.timm_patch,
        channels=timm_models.timm_channels,
        image_size=timm_models.timm_image_size,
        channels_last=timm_models.timm_channels_last,
        size_hint=timm_models.SIZE_HINT,
        make_config=timm_models.timm_config,
        accept_sizes=timm_models.accept_sizes,
        initialize=timm_models.initialize_timm,
        layer_distances=timm_models.timm_distances,
        weight_prefix=timm_models.WEIGHT_PREFIX,
        image_processor="TimmWrapperImageProcessor",
        processor_in_config=True,
    ),
    Family(("small_resnet",), settle_fields=_depth_gives_sizes),
    Family(("colour_views",), initialize=_initialize_views),
    replace(
        _TWO_TOWERS,
        model_types=(PAIR,),  # which cannot do it as a whole, though its towers can
        recomputed=lambda encoder: [encoder.vision_model, encoder.text_model],
    ),
    replace(
        _TWO_TOWERS,
        model_types=("clip",),
        joint_processor="CLIPProcessor",
        image_tower="CLIPVisionModelWithProjection",
    ),
    replace(
        _TWO_TOWERS,
        model_types=("siglip",),
        pads_texts=True,
        joint_processor="SiglipProcessor",
        image_tower="SiglipVisionModel",
        pools_image_tower=True,
    ),
    replace(
        _TWO_TOWERS,
        model_types=("siglip2",),
        pads_texts=True,
        refusal="takes patches of images of several sizes with their positions, and not images (SigLIP 2's weights for one size of images "
        "are of model_type siglip)",
    ),
    Family(("siglip_text_model", "siglip2_text_model"), pads_texts=True),
    # Of id 2 as the end see tower_configs.py.
    Family(("clip_text_model", "metaclip_2_text_model"), pooled_at_end=True),
    Family(
        (
            "altclip_text_model",
            "camembert",
            "data2vec-text",
            "ibert",
            "longformer",
            "mpnet",
            "roberta",
            "roberta-prelayernorm",
        )
        + ("xlm-roberta", "xlm-roberta-xl", "xmod"),
        positions_after_padding=True,
    ),
)
_FAMILIES = {model_type: entry for entry in _ENTRIES for model_type in entry.model_types}


def register_family(family: Family) -> None:
    """Adds the facts of further architectures, or replaces those of known ones.

    Args:
        family: The entry; its ``model_types`` say of which.
    """
    _FAMILIES.update(dict.fromkeys(family.model_types, family))


def family_of_type(model_type: str | None) -> Family:
    """The facts of an architecture by transformers' name of it: a ``model_type``."""
    return _FAMILIES.get(model_type or "", _USUAL)


def family_of(model: nn.Module) -> Family:
    """The facts of a model's architecture; of models with an image and a text tower that have no entry, what is true of all."""
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    return _FAMILIES.get(model_type) or (_TWO_TOWERS if is_two_towers(model) else _USUAL)


def model_types(**facts: Any) -> tuple[str, ...]:
    """The names of the architectures whose entry has these facts: ``model_types(as_vit=True)``."""
    return tuple(name for name, entry in _FAMILIES.items() if all(getattr(entry, k) == v for k, v in facts.items()))
