"""SigLIP against a pair-by-pair sigmoid, its own bias, and its settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.methods.siglip import SigLIP
from hfcontrast.testing import TINY_BACKBONE, TINY_TOWERS, build, check_method, random_batch

NATIVE = {
    "model_type": "siglip",
    "text_config": {**TINY_TOWERS["text_config"], "projection_size": 32},
    "vision_config": TINY_TOWERS["vision_config"],
}


@pytest.mark.parametrize("backbone", [NATIVE, TINY_TOWERS], ids=["siglip", "clip"])
def test_every_pair_is_a_decision(backbone):
    method, batch = build(SigLIP, backbone), random_batch(SigLIP, 5)
    with torch.no_grad():
        parts = method.embed(**{key: batch[key] for key in ("pixel_values", "input_ids", "attention_mask")})
        images, texts = (F.normalize(parts[name], dim=1) for name in ("images", "texts"))
        bias = method.encoder.logit_bias if backbone is NATIVE else method.own_bias.value
        logits = images @ texts.T * method.encoder.logit_scale.exp() + bias
        signs = 2 * torch.eye(5) - 1
        expected = -F.logsigmoid(signs * logits).sum() / 5
        torch.testing.assert_close(method(**batch).loss, expected)


def test_scale_and_bias_start_where_the_papers_do_and_learn():
    method = build(SigLIP, NATIVE)
    assert method.encoder.logit_scale.exp().item() == pytest.approx(10, rel=1e-4)
    assert method.encoder.logit_bias.item() == -10
    assert method.own_bias is None
    method(**random_batch(SigLIP, 4)).loss.backward()
    assert method.encoder.logit_scale.grad.abs() > 0 and method.encoder.logit_bias.grad.abs() > 0


def test_a_backbone_without_a_bias_gets_one():
    method = build(SigLIP, TINY_TOWERS, bias=-7)
    assert method.own_bias.value.item() == -7
    assert method.encoder.logit_scale.exp().item() == pytest.approx(10, rel=1e-4)
    assert not hasattr(method.export_encoder(), "logit_bias")


@pytest.mark.parametrize("loaded", ["logit_scale", "logit_bias", ""])
@pytest.mark.parametrize("backbone", [NATIVE, TINY_TOWERS], ids=["siglip", "clip"])
def test_scale_and_bias_start_together_where_either_is_new(backbone, loaded):
    method = build(SigLIP, backbone)
    with torch.no_grad():
        for name in ("logit_scale", "logit_bias"):
            if hasattr(method.encoder, name):
                getattr(method.encoder, name).fill_(4.6)
    if backbone is NATIVE:
        method.after_loading(frozenset({"logit_scale", "logit_bias"}))
        assert method.encoder.logit_scale.item() == pytest.approx(4.6) and method.encoder.logit_bias.item() > 4
    method.after_loading(frozenset({loaded}))
    assert method.encoder.logit_scale.exp().item() == pytest.approx(10, rel=1e-4)
    assert (method.encoder.logit_bias if backbone is NATIVE else method.own_bias.value).item() == -10


def test_an_encoder_of_images_alone_is_refused():
    with pytest.raises(ValueError, match="siglip needs a backbone with an image and a text tower"):
        build(SigLIP, TINY_BACKBONE)


@pytest.mark.parametrize("backbone", [NATIVE, TINY_TOWERS], ids=["siglip", "clip"])
def test_contract(backbone):
    check_method(SigLIP, backbone)
