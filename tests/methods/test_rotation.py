"""Rotation: the four copies of an image, its loss by hand, and the images turned back."""

import pytest
import torch

from hfcontrast.encoders import encode
from hfcontrast.methods.rotation import Rotation, RotationConfig, turn
from hfcontrast.testing import build, check_method, random_batch

TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def test_an_image_is_turned_exactly():
    picture = torch.arange(9.0).view(1, 1, 1, 3, 3)
    copies = turn(picture)[0, 0, :, 0]
    assert copies[0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert copies[1].tolist() == [[2, 5, 8], [1, 4, 7], [0, 3, 6]]  # the right side is up
    assert copies[2].tolist() == [[8, 7, 6], [5, 4, 3], [2, 1, 0]]
    assert copies[3].tolist() == [[6, 3, 0], [7, 4, 1], [8, 5, 2]]


def test_the_loss_is_that_of_every_copy():
    method, pixels = build(Rotation), random_batch(Rotation, 3)["pixel_values"]
    output, losses, right = method(pixel_values=pixels), [], 0
    for picture in pixels[:, 0]:
        for angle in range(4):
            turned = torch.rot90(picture, angle, (1, 2))
            probabilities = method.classifier(encode(method.encoder, turned[None]))[0].softmax(dim=0)
            losses.append(-probabilities[angle].log())
            right += int(probabilities.argmax() == angle)
    torch.testing.assert_close(output.loss, torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
    assert output.metrics["accuracy"].item() == pytest.approx(right / 12)
    upright = encode(method.encoder, pixels[:, 0])
    torch.testing.assert_close(output.embeddings[:, 0], upright.detach(), rtol=1e-4, atol=1e-5)


def test_several_crops_are_several_images():
    method, pixels = build(Rotation).eval(), torch.randn(2, 3, 3, 32, 32)
    assert method.embed(pixels)["h"].shape == (2, 3, 4, 32)
    together = method(pixel_values=pixels).loss
    apart = method(pixel_values=pixels.flatten(0, 1).unsqueeze(1)).loss
    torch.testing.assert_close(together, apart)


@torch.no_grad()
def test_images_are_turned_back_by_the_predicted_angle():
    method, pixels = build(Rotation).eval(), random_batch(Rotation, 4)["pixel_values"]
    sheet = method.visualize(pixel_values=pixels)
    assert list(sheet) == ["rotated", "turned back"] and sheet["rotated"].shape == (4, 4, 3, 32, 32)
    assert torch.equal(sheet["rotated"], turn(pixels)[:, 0])
    predicted = method.classifier(method.embed(pixels)["h"][:, 0]).argmax(dim=-1)
    for image in range(4):
        for copy in range(4):
            expected = torch.rot90(sheet["rotated"][image, copy], -int(predicted[image, copy]), (1, 2))
            assert torch.equal(sheet["turned back"][image, copy], expected)
    method.classifier.weight.zero_()
    method.classifier.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0]))
    back = method.visualize(pixel_values=pixels)["turned back"]
    assert torch.equal(back[:, 2], pixels[:, 0])  # half a turn is predicted for all, and right for the third


def test_the_settings_are_the_authors():
    (view,) = Rotation.views
    assert (view.count, view.size, view.scale, view.interpolation) == (1, 224, (0.08, 1.0), "bilinear")
    assert (view.horizontal_flip, view.vertical_flip, view.jitter, view.grayscale, view.blur) == (0.5, 0, 0, 0, 0)
    assert RotationConfig.model_type == "hfcontrast_rotation"


def test_contract():
    check_method(Rotation)
