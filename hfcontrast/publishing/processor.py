"""The image processor that is published with an encoder: resize the short side, center crop, normalize."""

from typing import Any

import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from ..encoders.channels import COLORS
from ..encoders.families import family_of
from ..recipe.sections import PublishSection


def timm_settings(size: int, ratio: float, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Any]:
    """timm's description of the preprocessing, ``pretrained_cfg``."""
    return {
        "input_size": [len(mean), size, size],
        "mean": list(mean),
        "std": list(std),
        "interpolation": "bicubic",
        "crop_pct": ratio,
        "crop_mode": "center",
    }


def published_ratio(settings: PublishSection, size: int) -> float:
    """Share of the resized image that the processor's crop keeps.

    Args:
        settings: The recipe's ``publish`` section.
        size: Side of the images, in pixels.
    """
    return settings.resize_ratio or (0.875 if size >= 128 else 1.0)


def build_processor(
    encoder: PreTrainedModel, size: int, ratio: float, mean: tuple[float, ...], std: tuple[float, ...]
) -> Any:
    """The processor that ``AutoImageProcessor`` will load beside the encoder.

    Args:
        encoder: timm's encoders get timm's transform, models with a text tower CLIP's, ImageGPT one that quantizes colors to
            tokens, all others ``BitImageProcessor``, which is CLIP's under another name (see
            :class:`~hfcontrast.encoders.families.Family`). Of other channels than three all have ``BitImageProcessor``, which takes them as arrays or
            tensors, with their ``input_data_format``.
        size: Side of the square images it makes, in pixels.
        ratio: Share of the resized short side that the crop keeps, in (0, 1].
        mean: Mean of each color, in [0, 1].
        std: Standard deviation of each color.
    """
    family = family_of(encoder)
    if len(mean) != COLORS:
        return transformers.BitImageProcessor(
            do_convert_rgb=False, image_mean=list(mean), image_std=list(std), **_resizing(size, ratio)
        )
    if family.processor_in_config:
        return transformers.TimmWrapperImageProcessor(
            timm_settings(size, ratio, mean, std), architecture=encoder.config.architecture
        )
    own = {"image_mean": list(mean), "image_std": list(std)} | family.processor_settings(encoder.config)
    return getattr(transformers, family.image_processor)(do_convert_rgb=True, **_resizing(size, ratio), **own)


def _resizing(size: int, ratio: float) -> dict[str, Any]:
    """Settings that resize, crop, rescale and normalize, whatever the channels are."""
    return {
        "do_resize": True,
        "size": {"shortest_edge": round(size / ratio)},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "do_normalize": True,
    }


def with_tokenizer(encoder: PreTrainedModel, images: Any, tokenizer: PreTrainedTokenizerBase) -> ProcessorMixin:
    """The processor of images and texts that ``AutoProcessor`` will load beside a model with two towers.

    Args:
        encoder: The model.
        images: Its image processor.
        tokenizer: The tokenizer that its text tower was trained with.
    """
    kind = getattr(transformers, family_of(encoder).joint_processor)
    return kind(image_processor=images, tokenizer=tokenizer)
