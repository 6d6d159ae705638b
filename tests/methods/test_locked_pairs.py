"""A locked image tower's features, computed before, give the losses and gradients that its images give."""

import copy

import pytest
import torch
from transformers import AutoModel

from hfcontrast.encoders.locked_tower import image_tower_is_locked, projected, unprojected_features, unprojected_size
from hfcontrast.encoders.two_towers import image_features
from hfcontrast.methods.clip import CLIP
from hfcontrast.methods.siglip import SigLIP
from hfcontrast.testing import TINY_CONVOLUTIONAL_TOWERS, TINY_TOWERS, build, random_batch

TINY_SIGLIP = {
    "model_type": "siglip",
    "text_config": {**TINY_TOWERS["text_config"], "projection_size": 32},
    "vision_config": TINY_TOWERS["vision_config"],
}


def locked(method_class, backbone):
    method = build(method_class, copy.deepcopy(backbone))
    method.encoder.vision_model.requires_grad_(False)
    method.keep_in_eval_mode("encoder.vision_model")
    return method


@pytest.mark.parametrize(
    "method_class, backbone",
    [(CLIP, TINY_TOWERS), (CLIP, TINY_CONVOLUTIONAL_TOWERS), (SigLIP, TINY_SIGLIP), (SigLIP, TINY_TOWERS)],
)
def test_loss_and_gradients_are_those_of_the_images(method_class, backbone):
    method = locked(method_class, backbone)
    batch = random_batch(method_class, 6)
    ((key, frozen),) = method.frozen_features().items()
    features = frozen.compute(batch[key])
    assert features.shape == (6, 1, frozen.size) and not features.requires_grad
    whole = method(**batch)
    whole.loss.backward()
    expected = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    method.zero_grad()
    read = method(**{name: value for name, value in batch.items() if name != key} | {frozen.entry: features})
    read.loss.backward()
    torch.testing.assert_close(read.loss, whole.loss, rtol=1e-5, atol=1e-6)
    found = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_a_tower_that_is_trained_has_no_frozen_features():
    method = build(CLIP)
    assert method.frozen_features() == {}
    method = locked(CLIP, TINY_TOWERS)
    next(method.encoder.vision_model.parameters()).requires_grad_(True)  # such as an adapter
    assert not image_tower_is_locked(method.encoder)
    method = build(CLIP)
    method.encoder.vision_model.requires_grad_(False)  # its dropout and batch statistics still change
    assert not image_tower_is_locked(method.encoder)


def test_before_the_projection_is_what_the_projection_takes():
    model = build(CLIP).eval().encoder
    pixels = torch.randn(2, 3, 32, 32)
    assert unprojected_size(model) == 32
    features = unprojected_features(model, pixels)
    torch.testing.assert_close(projected(model, features), image_features(model, pixels))
    assert not model.visual_projection._forward_pre_hooks and isinstance(
        model, type(AutoModel.from_config(model.config))
    )
