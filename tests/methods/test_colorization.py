"""Colorization: its targets and loss against the paper's formulas, what is measured, what is published, and its images."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import ColorViewsModel, encode
from hfcontrast.encoders.color_views import convert_colors, lab_to_rgb
from hfcontrast.losses import annealed_mean, rebalancing_weights
from hfcontrast.methods.colorization import Colorization, ColorizationConfig
from hfcontrast.methods.colorization.color_bins import color_bins
from hfcontrast.testing import build, check_method, random_batch

MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
SMALL = {"decoder_dim": 16}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def pictures(count, size=32):
    """RGB in [0, 1] with large fields of color, and the same normalized, (B, 1, 3, S, S)."""
    fields = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    rgb = F.interpolate(fields, (size, size), mode="nearest")
    return rgb, ((rgb - MEAN) / STD).unsqueeze(1)


def loss_by_hand(method, rgb, logits):
    """Equations 2 to 4 of one image, place by place, with the mean over the places."""
    bins, terms = color_bins().double(), []
    w = rebalancing_weights(torch.tensor(method.config.color_frequencies), color_bins()).double()
    ab = convert_colors(rgb[None], "lab")[0, 1:].double()
    for row in range(ab.shape[1] // 4):
        for column in range(ab.shape[2] // 4):
            color = ab[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean(dim=(1, 2))
            distances = (bins - color).norm(dim=1)
            z = torch.zeros(len(bins), dtype=torch.double)
            for place in distances.argsort()[:5]:
                z[place] = (-(distances[place] ** 2) / 50).exp()
            z /= z.sum()
            terms.append(-w[z.argmax()] * (z * logits[:, row, column].double().log_softmax(dim=0)).sum())
    return torch.stack(terms).mean()


def test_the_loss_is_the_papers():
    method = build(Colorization, **SMALL)
    rgb, pixels = pictures(3)
    embeddings = method.embed(pixels)
    logits = method.predict(pixels[:, 0])
    assert logits.shape == (3, 261, 8, 8)
    expected = torch.stack([loss_by_hand(method, picture, own) for picture, own in zip(rgb, logits)])
    torch.testing.assert_close(embeddings["loss"][:, 0].double(), expected, rtol=1e-3, atol=1e-4)
    output = method(pixel_values=pixels)
    torch.testing.assert_close(output.loss.double(), expected.mean(), rtol=1e-3, atol=1e-4)
    ab = F.avg_pool2d(convert_colors(rgb, "lab")[:, 1:], 4).movedim(1, -1)
    nearest = torch.cdist(ab.flatten(0, 2), color_bins()).argmin(dim=1).view(3, 8, 8)
    assert output.metrics["accuracy"].item() == pytest.approx((logits.argmax(1) == nearest).float().mean().item())
    assert output.embeddings is None


def test_what_is_predicted_depends_on_the_lightness_only():
    method = build(Colorization, **SMALL).eval()
    rgb, pixels = pictures(2)
    gray = lab_to_rgb(convert_colors(rgb, "lab") * torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1))
    with torch.no_grad():
        of_gray = method.predict((gray - MEAN) / STD)
        torch.testing.assert_close(of_gray, method.predict(pixels[:, 0]), rtol=1e-3, atol=1e-3)
        assert method.embed(((gray - MEAN) / STD).unsqueeze(1))["loss"].ne(method.embed(pixels)["loss"]).all()


def test_frequencies_are_shares_of_the_places():
    rgb = torch.cat([torch.full((3, 3, 16, 16), 0.5), torch.zeros(1, 3, 16, 16)])
    rgb[3, 0] = 1.0  # red: a 80, b 67
    found = Colorization.compute_data_statistics(rgb, {})["color_frequencies"]
    bins = color_bins().tolist()
    assert found[bins.index([0.0, 0.0])] == 0.75 and found[bins.index([80.0, 70.0])] == 0.25 and sum(found) == 1
    stripes = torch.zeros(1, 3, 8, 8)
    stripes[:, :, :, ::2] = 1.0
    stripes[:, 1:, :, ::4] = 0.0
    of_means = Colorization.compute_data_statistics(stripes, {"output_stride": 8})["color_frequencies"]
    assert (
        max(of_means) == 1
        and Colorization.compute_data_statistics(stripes, {"output_stride": 1})["color_frequencies"] != of_means
    )
    assert Colorization.data_statistics == ("color_frequencies",)


def test_rare_colors_weigh_more():
    frequencies = [1.0] * 261
    frequencies[0] = 1000.0
    method = build(Colorization, color_frequencies=frequencies, **SMALL)
    assert method.weights[0] < method.weights[100] / 3
    expected = rebalancing_weights(torch.tensor(frequencies), color_bins(), 5.0, 0.5)
    torch.testing.assert_close(method.weights, expected)
    equal = build(Colorization, color_frequencies=frequencies, uniform_share=1.0, **SMALL)
    torch.testing.assert_close(equal.weights, torch.ones(261))


@torch.no_grad()
def test_the_sheet_shows_the_predicted_colors():
    method = build(Colorization, **SMALL).eval()
    rgb, pixels = pictures(3)
    sheet = method.visualize(pixel_values=pixels)
    assert list(sheet) == ["lightness", "colorized", "original"]
    assert torch.equal(sheet["original"], pixels[:, 0])
    lab = convert_colors(rgb, "lab")
    shown = {name: convert_colors((sheet[name] * STD + MEAN).clamp(0, 1), "lab") for name in ("lightness", "colorized")}
    assert shown["lightness"][:, 1:].abs().max() < 0.01
    torch.testing.assert_close(shown["lightness"][:, 0], lab[:, 0], rtol=1e-3, atol=1e-2)
    colors = annealed_mean(method.predict(pixels[:, 0]).movedim(1, -1), color_bins(), 0.38).movedim(-1, 1)
    full = torch.cat([lab[:, :1], F.interpolate(colors, (32, 32), mode="bilinear")], dim=1)
    torch.testing.assert_close(sheet["colorized"], (lab_to_rgb(full) - MEAN) / STD, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("backbone", [None, TINY_RESNET], ids=["vit", "resnet"])
def test_one_encoder_of_ordinary_images_is_published(backbone):
    method = build(Colorization, backbone, **SMALL).eval()
    encoder = method.export_encoder()
    assert type(encoder) is ColorViewsModel and len(encoder.encoders) == 1
    assert encoder.config.channel_groups == [[0]] and encoder.encoders[0].config.num_channels == 1
    pixels = pictures(2)[1][:, 0]
    with torch.no_grad():
        hidden = encoder(pixels).last_hidden_state
        pooled = hidden[:, 1:].mean(dim=1) if backbone is None else hidden.mean(dim=(2, 3))  # no loss trains the class
        torch.testing.assert_close(encode(encoder, pixels), pooled, rtol=1e-4, atol=1e-5)


def test_registers_are_not_colorized():
    registers = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8}
    backbone = {"model_type": "dinov2_with_registers", "num_register_tokens": 4, "image_size": 32, **registers}
    method = build(Colorization, backbone, **SMALL).eval()
    pixels = pictures(2)[1]
    with torch.no_grad():
        assert torch.isfinite(method(pixel_values=pixels).loss)
        tokens = method.encoder(pixels[:, 0]).last_hidden_state
        torch.testing.assert_close(encode(method.encoder, pixels[:, 0]), tokens[:, 5:].mean(dim=1))


def test_what_is_missing_or_wrong_is_named():
    with pytest.raises(ValueError, match="colorization needs image_mean, color_frequencies: they are filled in"):
        Colorization(ColorizationConfig(backbone_config=TINY_RESNET, image_std=[1.0] * 3))
    with pytest.raises(ValueError, match="color_frequencies has 313 numbers, expected 261"):
        build(Colorization, color_frequencies=[1.0] * 313, **SMALL)
    with pytest.raises(ValueError, match="that are not all 0"):
        build(Colorization, color_frequencies=[0.0] * 261, **SMALL)
    with pytest.raises(
        Exception, match=r"the encoder takes \[\[0\], \[1, 2\]\] of lab, which include the target colors"
    ):
        ColorizationConfig(backbone_config={"model_type": "colour_views"})


@pytest.mark.parametrize(
    "name, value",
    [("temperature", 0), ("encoding_sigma", 0), ("neighbors", 0), ("output_stride", 0), ("uniform_share", 1.5)],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        ColorizationConfig(**{name: value})


def test_the_settings_are_the_papers():
    config, (view,) = ColorizationConfig(), Colorization.views
    assert (config.neighbors, config.encoding_sigma, config.smoothing_sigma) == (5, 5.0, 5.0)
    assert (config.uniform_share, config.temperature, config.output_stride, config.decoder_dim) == (0.5, 0.38, 4, 256)
    assert (view.count, view.size, view.ratio, view.horizontal_flip) == (1, 176, (1.0, 1.0), 0.5)
    assert view.scale[0] == view.scale[1] == pytest.approx((176 / 256) ** 2, abs=0.005)
    assert (view.jitter, view.grayscale, view.blur) == (0, 0, 0)  # the colors are what is to be learned


def test_half_precision_leaves_colors_and_loss_exact():
    method = build(Colorization, **SMALL)
    batch = random_batch(Colorization, 2)
    exact = method.embed(batch["pixel_values"])["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        output = method(**batch)
        sheet = method.visualize(batch["pixel_values"])
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, exact.mean(), rtol=0.02, atol=0.02)
    rgb = (batch["pixel_values"][:, 0] * STD + MEAN).clamp(0, 1)
    lightness = convert_colors((sheet["lightness"] * STD + MEAN).clamp(0, 1), "lab")[:, 0]
    torch.testing.assert_close(lightness, convert_colors(rgb, "lab")[:, 0], rtol=0, atol=0.05)


def test_contract():
    check_method(Colorization, **SMALL)
