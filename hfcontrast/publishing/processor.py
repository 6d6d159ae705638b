"""The image processor that is published with an encoder: resize the short side, centre crop, normalise."""

from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, BitImageProcessor, PreTrainedModel
from transformers.models.timm_wrapper.image_processing_timm_wrapper import TimmWrapperImageProcessor


def timm_settings(size: int, ratio: float, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Any]:
    """timm's description of how images are prepared, ``pretrained_cfg``."""
    return {
        "input_size": [3, size, size],
        "mean": list(mean),
        "std": list(std),
        "interpolation": "bicubic",
        "crop_pct": ratio,
        "crop_mode": "center",
    }


def build_processor(
    encoder: PreTrainedModel, size: int, ratio: float, mean: tuple[float, ...], std: tuple[float, ...]
) -> Any:
    """The processor that ``AutoImageProcessor`` will load beside the encoder.

    Args:
        encoder: timm's encoders get timm's transform, all others that of ``BitImageProcessor``.
        size: Side of the square images it makes, in pixels.
        ratio: Share of the resized short side that the crop keeps, in (0, 1].
        mean: Mean of each colour, in [0, 1].
        std: Standard deviation of each colour.
    """
    if hasattr(encoder, "timm_model"):
        return TimmWrapperImageProcessor(
            timm_settings(size, ratio, mean, std), architecture=encoder.config.architecture
        )
    return BitImageProcessor(
        do_convert_rgb=True,
        do_resize=True,
        size={"shortest_edge": round(size / ratio)},
        resample=3,  # bicubic
        do_center_crop=True,
        crop_size={"height": size, "width": size},
        do_rescale=True,
        do_normalize=True,
        image_mean=list(mean),
        image_std=list(std),
    )


def as_transform(processor: AutoImageProcessor) -> Callable[[list[Image.Image]], Tensor]:
    """A function from images to (N, C, H, W) pixel values, exactly as a user of the published folder would get them."""
    return lambda images: processor(images=[image.convert("RGB") for image in images], return_tensors="pt").pixel_values
