"""What a card says of transformers' classes for other tasks: what a classifier reads, and the image processor of dense tasks."""

from typing import Any

from transformers import PreTrainedModel
from transformers.models.auto import image_processing_auto, modeling_auto

from ..encoders.families import family_of
from ..encoders.features import feature_size, pools_patches
from ..encoders.two_towers import is_two_towers

_DENSE = {
    "semantic segmentation": "SemanticSegmentation",
    "object detection": "ObjectDetection",
    "depth estimation": "DepthEstimation",
}
_TOKENS = {
    "class_token": "the class token",
    "token_mean": "the mean of the patches",
    "both": "the class token beside the mean of the patches",
}


def told_classifier(encoder: PreTrainedModel) -> str | None:
    """A sentence where transformers' image classifier of the published encoder reads other features than those of the card.

    Args:
        encoder: As it is published.

    Returns:
        The sentence; None where it reads the same, or there is no such classifier.
    """
    name = _classes("IMAGE_CLASSIFICATION").get(encoder.config.model_type)
    mean = pools_patches(encoder)
    reads = family_of(encoder).classified(encoder.config) or ("class_token" if mean else None)
    own = "token_mean" if mean else "class_token"
    if name is None or reads in (None, own):
        return None
    return (
        f"`{name}` reads {_TOKENS[reads]}, and not the features above, which are {_TOKENS[own]}: to fine-tune what was evaluated, put "
        f"`torch.nn.Linear({feature_size(encoder)}, classes)` on `features`."
    )


def told_processor(encoder: PreTrainedModel) -> str | None:
    """A sentence on the image processor for tasks with labels for places of an image, which the published one does not prepare.

    Args:
        encoder: As it is published.

    Returns:
        The sentence; None where transformers has no model of this architecture for such a task.
    """
    model_type = encoder.config.model_type
    tasks = [task for task, end in _DENSE.items() if model_type in _classes(_upper(end))]
    known = image_processing_auto.IMAGE_PROCESSOR_MAPPING_NAMES.get(model_type)
    if is_two_towers(encoder) or not tasks or not known:
        return None
    processor = _plain(known)
    auto = " and ".join(f"`AutoModelFor{_DENSE[task]}`" for task in tasks)
    return (
        f"For {' and '.join(tasks)} ({auto}) take the architecture's own image processor, which prepares labels too: "
        f"`{processor}(image_mean=processor.image_mean, image_std=processor.image_std)`."
    )


def _classes(task: str) -> dict[str, str]:
    """The class that transformers' Auto class for a task builds first, by ``model_type``."""
    found: dict[str, Any] = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES", {})
    return {name: value if isinstance(value, str) else value[0] for name, value in found.items()}


def _upper(name: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).strip("_").upper()


def _plain(known: Any) -> str:
    """The first class among those that transformers has for several libraries."""
    names = known.values() if isinstance(known, dict) else [known] if isinstance(known, str) else known
    return next(name for name in sorted(filter(None, names), key=len))
