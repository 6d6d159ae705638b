"""What methods of images and texts share: the features of pairs, those of a locked image tower also as they were computed before."""

from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from ..encoders.fingerprint import fingerprint_of_weights
from ..encoders.locked_tower import image_tower_is_locked, projected, unprojected_features, unprojected_size
from ..encoders.two_towers import pair_features, text_features
from .base import FrozenFeatures


def embed_pairs(
    encoder: PreTrainedModel,
    pixel_values: Tensor | None,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    image_features: Tensor | None,
) -> dict[str, Tensor]:
    """``images`` and ``texts``, (B, D) each.

    Args:
        encoder: A model with two towers.
        pixel_values: (B, 1, C, H, W); None where the image tower's features are given.
        input_ids: (B, T).
        attention_mask: (B, T).
        image_features: (B, 1, D) as :func:`frozen_image_features` computes them.
    """
    if image_features is None:
        return pair_features(encoder, pixel_values[:, 0], input_ids, attention_mask)
    return {
        "images": projected(encoder, image_features[:, 0]),
        "texts": text_features(encoder, input_ids, attention_mask),
    }


def frozen_image_features(encoder: PreTrainedModel) -> dict[str, FrozenFeatures]:
    """Of a locked image tower, before the projection; none where it is trained."""
    if not image_tower_is_locked(encoder):
        return {}
    fingerprint = fingerprint_of_weights(encoder.vision_model)
    frozen = FrozenFeatures("image_features", partial(_compute, encoder), unprojected_size(encoder), fingerprint)
    return {"pixel_values": frozen}


def _compute(encoder: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    return unprojected_features(encoder, pixel_values.flatten(0, 1)).unflatten(0, pixel_values.shape[:2])
