"""CLIP against transformers' own loss, its temperature, and its settings."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.methods.base import MethodOutput, Progress
from hfcontrast.methods.clip import CLIP
from hfcontrast.testing import TINY_BACKBONE, TINY_TOWERS, build, check_method, random_batch

SIGLIP = {
    "model_type": "siglip",
    "text_config": {**TINY_TOWERS["text_config"], "projection_size": 32},
    "vision_config": TINY_TOWERS["vision_config"],
}


def inputs(batch):
    return {"pixel_values": batch["pixel_values"][:, 0], **{k: batch[k] for k in ("input_ids", "attention_mask")}}


def test_loss_and_gradients_are_those_of_transformers():
    method, reference = build(CLIP), build(CLIP).encoder
    batch = random_batch(CLIP, 6)
    output = method(**batch)
    expected = reference(**inputs(batch), return_loss=True)
    torch.testing.assert_close(output.loss, expected.loss)
    output.loss.backward()
    expected.loss.backward()
    for (name, a), b in zip(method.encoder.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6, msg=name)
    assert method.encoder.logit_scale.grad.abs() > 0


def test_the_loss_is_the_papers_pseudocode():
    method, batch = build(CLIP), random_batch(CLIP, 5)
    with torch.no_grad():
        parts = method.embed(**{key: batch[key] for key in ("pixel_values", "input_ids", "attention_mask")})
        images, texts = (F.normalize(parts[name], dim=1) for name in ("images", "texts"))
        logits = images @ texts.T * method.encoder.logit_scale.exp()
        labels = torch.arange(5)
        expected = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        torch.testing.assert_close(method(**batch).loss, expected)


def test_the_scale_starts_at_the_papers_and_stays_below_its_limit():
    method = build(CLIP)
    assert method.encoder.logit_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-4)
    for raw, kept in ((5.0, 100.0), (math.log(30.0), 30.0)):
        with torch.no_grad():
            method.encoder.logit_scale.fill_(raw)
        method.after_step([MethodOutput()], Progress(1, 10))
        assert method.encoder.logit_scale.exp().item() == pytest.approx(kept, rel=1e-5)
    assert build(CLIP, max_scale=20).config.max_scale == 20
    with pytest.raises(Exception, match="max_scale is 0"):
        build(CLIP, max_scale=0)


def test_padding_of_captions_changes_nothing():
    method, batch = build(CLIP).eval(), random_batch(CLIP, 4)
    short = batch["attention_mask"].sum(1).max()
    trimmed = {
        **batch,
        "input_ids": batch["input_ids"][:, :short],
        "attention_mask": batch["attention_mask"][:, :short],
    }
    with torch.no_grad():
        torch.testing.assert_close(method(**trimmed).loss, method(**batch).loss)


def test_an_encoder_of_images_alone_is_refused():
    with pytest.raises(ValueError, match="clip needs a backbone with an image and a text tower, and 'dinov2' has none"):
        build(CLIP, TINY_BACKBONE)


def test_the_view_hardly_changes_the_image():
    (view,) = CLIP.views
    assert (view.count, view.size, view.scale, view.horizontal_flip) == (1, 224, (0.9, 1.0), 0.0)
    assert not (view.brightness or view.contrast or view.saturation or view.hue or view.grayscale or view.blur)


def test_gains_biases_and_the_temperature_do_not_decay():
    from hfcontrast.training.optim import parameter_groups

    method = build(CLIP)
    decaying = {id(p) for group in parameter_groups(method, 0.2) if group["weight_decay"] for p in group["params"]}
    for name, parameter in method.named_parameters():
        exempt = name.endswith("bias") or "norm" in name or name.endswith(("logit_scale", "class_embedding"))
        assert (id(parameter) in decaying) != exempt, name


def test_towers_of_siglip_whose_scale_is_a_vector():
    method, batch = build(CLIP, SIGLIP), random_batch(CLIP, 5)
    assert method.encoder.logit_scale.shape == (1,)
    assert method.encoder.logit_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-4)
    output = method(**batch)
    images, texts = (F.normalize(part, dim=1) for part in method.embed(**batch_of_embed(batch)).values())
    logits = images @ texts.T / 0.07
    expected = (F.cross_entropy(logits, torch.arange(5)) + F.cross_entropy(logits.T, torch.arange(5))) / 2
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert method.encoder.logit_scale.grad.abs() > 0
    assert [name for name, parameter in method.named_parameters() if parameter.grad is None] == ["encoder.logit_bias"]
    assert not method.encoder.logit_bias.requires_grad  # it cancels out of the loss


def batch_of_embed(batch):
    return {key: batch[key] for key in ("pixel_values", "input_ids", "attention_mask")}


@pytest.mark.parametrize("backbone", [None, SIGLIP], ids=["clip", "siglip"])
def test_contract(backbone):
    check_method(CLIP, backbone)
