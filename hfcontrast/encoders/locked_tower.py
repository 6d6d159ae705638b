"""An image tower that is locked: its features before the projection, which is trained, never change."""

from torch import Tensor, nn
from transformers import PreTrainedModel

from .features import feature_size
from .two_towers import image_features

# What may be trained beside a locked image tower without changing its features.
_BESIDE = ("text_model.", "text_projection", "visual_projection", "logit_scale", "logit_bias")


def image_tower_is_locked(model: PreTrainedModel) -> bool:
    """Whether nothing that the image tower of a model with two is made of is trained, its statistics of batches included."""
    tower = model.vision_model
    frozen = not any(
        parameter.requires_grad for name, parameter in model.named_parameters() if not name.startswith(_BESIDE)
    )
    return frozen and not any(module.training for module in tower.modules())


def image_projection(model: PreTrainedModel) -> nn.Module | None:
    """The layer from the image tower's features to the common space; None where the features are in it already, as SigLIP's are."""
    return getattr(model, "visual_projection", None)


def unprojected_size(model: PreTrainedModel) -> int:
    """Width of :func:`unprojected_features`."""
    projection = image_projection(model)
    return feature_size(model) if projection is None else projection.in_features


def unprojected_features(model: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """Features (N, D) of images (N, C, H, W) as the image tower gives them to the projection."""
    projection = image_projection(model)
    if projection is None:
        return image_features(model, pixel_values)
    found: list[Tensor] = []
    handle = projection.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    try:
        image_features(model, pixel_values)
    finally:
        handle.remove()
    return found[0]


def projected(model: PreTrainedModel, features: Tensor) -> Tensor:
    """Features of :func:`unprojected_features` in the common space."""
    projection = image_projection(model)
    return features if projection is None else projection(features)
