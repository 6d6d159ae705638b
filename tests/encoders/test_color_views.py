"""Color views: the conversions of colors, and the model of one encoder for each view."""

import json

import pytest
import timm
import torch
from transformers import AutoConfig, AutoModel

from hfcontrast.encoders import ColorViewsConfig, ColorViewsModel, encode, feature_size
from hfcontrast.encoders.color_views import convert_colors, lab_to_rgb
from hfcontrast.encoders.model_config import backbone_config

RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
VIT = {"model_type": "vit", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8}
BACKBONES = {
    "resnet": (RESNET, 12),
    "vit": (VIT, 16),
    "dinov2": ({**VIT, "model_type": "dinov2"}, 16),
    "small_resnet": ({"model_type": "small_resnet"}, 512),
    "timm vit": ("timm/vit_tiny_patch16_224", 192),
    "timm resnet": ("timm/resnet18", 512),
    "timm mobilenet": ("timm/mobilenetv3_small_050", 1024),
}
# sRGB in [0, 1]; L, a, b and Y, Db, Dr as scikit-image 0.26 converts them (D65, the observer of 2 degrees).
COLORS = [
    ((1.0, 0.0, 0.0), (53.24058794, 80.09230823, 67.20275104), (0.299, -0.45, -1.333)),
    ((0.0, 1.0, 0.0), (87.73509949, -86.18302974, 83.17970318), (0.587, -0.883, 1.116)),
    ((0.0, 0.0, 1.0), (32.29567257, 79.18559091, -107.85730021), (0.114, 1.333, 0.217)),
    ((1.0, 1.0, 1.0), (100.0, -0.00245494, 0.00465342), (1.0, 0.0, 0.0)),
    ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    ((0.2, 0.5, 0.8), (52.25206058, 2.77602273, -46.28571386), (0.4445, 0.5349, 0.465)),
    ((0.02, 0.03, 0.01), (1.84782711, -1.37607989, 1.69525927), (0.02473, -0.02216, 0.00899)),
]


def config(backbone="resnet", **options):
    return ColorViewsConfig(backbone_config=backbone_config(BACKBONES[backbone][0], [32]), **options)


def as_image(colors):
    """N colors to (1, 3, N, 1)."""
    return torch.tensor(colors).T[None, :, :, None]


def test_colors_are_converted_as_elsewhere():
    rgb, lab, ydbdr = (as_image(values) for values in zip(*COLORS))
    torch.testing.assert_close(convert_colors(rgb, "lab"), lab, rtol=0, atol=0.01)
    torch.testing.assert_close(convert_colors(rgb, "ydbdr"), ydbdr, rtol=0, atol=1e-4)
    assert torch.equal(convert_colors(rgb, "rgb"), rgb)


def test_a_gray_has_no_color():
    gray = torch.linspace(0, 1, 50).view(1, 1, 50, 1).expand(1, 3, 50, 1)
    for space in ("lab", "ydbdr"):
        converted = convert_colors(gray, space)
        assert converted[:, 1:].abs().max() < 1e-3
        assert (converted[0, 0].diff(dim=0) > 0).all()  # the lighter, the more luminance


@pytest.mark.parametrize("space, groups", [("lab", None), ("ydbdr", None), ("rgb", None), ("lab", [[2, 0], [1], [0]])])
def test_the_views_are_the_scaled_channels_of_the_image_before_it_was_normalized(space, groups):
    mean, std = [0.1, 0.5, 0.9], [0.5, 0.25, 2.0]
    model = ColorViewsModel(config(color_space=space, channel_groups=groups, image_mean=mean, image_std=std))
    rgb = torch.rand(2, 3, 4, 5)
    normalized = (rgb - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    ranges = {  # those of train_CMC.py
        "lab": [(50, 50), (6.025, 92.208), (-6.6895, 101.1675)],
        "ydbdr": [(0.5, 0.5), (0, 1.333), (0, 1.333)],
        "rgb": [(0.5, 0.5)] * 3,
    }[space]
    channels = convert_colors(rgb, space).unbind(dim=1)
    scaled = [(channel - center) / half for channel, (center, half) in zip(channels, ranges)]
    groups = groups or {"rgb": [[0], [1], [2]]}.get(space, [[0], [1, 2]])
    views = model.views(normalized)
    assert len(views) == len(groups) == len(model.encoders)
    for view, group in zip(views, groups):
        torch.testing.assert_close(view, torch.stack([scaled[i] for i in group], dim=1), rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # which would round the products that make up a color
        assert all(torch.equal(a, b) for a, b in zip(model.views(normalized), views))


@pytest.mark.parametrize("space", ["lab", "ydbdr", "rgb"])
def test_all_colors_stay_within_one(space):
    corners = torch.cartesian_prod(*[torch.linspace(0, 1, 9)] * 3).T[None, :, :, None]
    model = ColorViewsModel(config(color_space=space, image_mean=[0.0] * 3, image_std=[1.0] * 3))
    values = torch.cat(model.views(corners), dim=1)
    assert values.abs().max() < 1.001
    assert all(channel.max() - channel.min() > 1.9 for channel in values.unbind(dim=1))
    beyond = torch.cat(model.views(2 * corners - 0.5), dim=1)  # what rounding and interpolation can leave
    assert beyond.abs().max() < 1.001 and torch.isfinite(beyond).all()


@pytest.mark.parametrize("name", BACKBONES)
def test_the_features_are_those_of_the_views_side_by_side(name, tmp_path):
    width = BACKBONES[name][1]
    model = ColorViewsModel(config(name)).eval()
    pixels = torch.randn(2, 3, 32, 32)
    features = encode(model, pixels)
    assert features.shape == (2, 2 * width) and feature_size(model) == 2 * width == model.config.hidden_size
    for encoder, view, part in zip(model.encoders, model.views(pixels), features.split(width, dim=1)):
        torch.testing.assert_close(encode(encoder, view), part)
    assert model(pixels).last_hidden_state.shape[0] == 2
    features.square().sum().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]

    model.save_pretrained(tmp_path)
    loaded, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(encode(loaded.eval(), pixels), features, rtol=1e-5, atol=1e-6)
    assert loaded.config.channel_groups == [[0], [1, 2]]


def test_images_of_another_size_are_taken():
    model = ColorViewsModel(config("vit")).eval()
    with torch.no_grad():
        assert encode(model, torch.randn(2, 3, 48, 48)).shape == (2, 32)
        assert model(torch.randn(1, 3, 48, 48)).last_hidden_state.shape == (1, 37, 32)  # tokens keep their places
        assert ColorViewsModel(config("resnet"))(torch.randn(1, 3, 32, 64)).last_hidden_state.shape == (1, 24, 4, 8)


def test_timms_initialization_is_intact():
    weights = ColorViewsModel(config("timm resnet")).encoders[1].timm_model.state_dict()
    original = timm.create_model("resnet18", num_classes=0, in_chans=2).state_dict()
    assert weights["layer1.0.bn2.weight"].abs().max() == 0  # the last normalization of a block starts at zero
    for name in ("conv1.weight", "layer4.0.conv2.weight"):
        assert weights[name].std().item() == pytest.approx(original[name].std().item(), rel=0.1)


def test_what_cannot_be_split_is_refused():
    for groups in ([[]], [[0], []], [[0], [3]], []):
        with pytest.raises(Exception, match="expected lists of the channels 0, 1 and 2"):
            config(channel_groups=groups)
    with pytest.raises(Exception, match="expected each channel once in a group"):
        config(channel_groups=[[0], [1, 1]])
    text = ColorViewsConfig(backbone_config={"model_type": "bert"})
    with pytest.raises(ValueError, match="'bert' has no setting num_channels"):
        ColorViewsModel(text)


def test_activations_can_be_computed_again():
    model = ColorViewsModel(config("vit")).train()
    pixels, calls = torch.randn(2, 3, 32, 32), []
    for encoder in model.encoders:
        attention = next(module for name, module in encoder.named_modules() if name.endswith("attention"))
        attention.register_forward_hook(lambda *_: calls.append(1))
    gradients = []
    newest = "activation_checkpointing_enable"  # the name in newer transformers
    for _ in range(2):
        model.zero_grad()
        model(pixels).pooler_output.sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
        getattr(model, newest if hasattr(model, newest) else "gradient_checkpointing_enable")()
    assert len(calls) == 2 + 4  # one of each encoder, then each of them twice
    for before, after in zip(*gradients):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-6)


def test_lab_is_turned_back():
    rgb, lab, _ = (as_image(values) for values in zip(*COLORS))
    torch.testing.assert_close(lab_to_rgb(lab), rgb, rtol=0, atol=5e-4)
    many = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)) ** 2
    torch.testing.assert_close(lab_to_rgb(convert_colors(many, "lab")), many, rtol=0, atol=1e-4)
    impossible = torch.tensor([50.0, 200.0, -200.0]).view(1, 3, 1, 1)
    assert lab_to_rgb(impossible).min() >= 0 and lab_to_rgb(impossible).max() <= 1


def test_an_encoder_of_lightness_alone_is_blind_to_color():
    model = ColorViewsModel(config(channel_groups=[[0]], image_mean=[0.0] * 3, image_std=[1.0] * 3)).eval()
    assert len(model.encoders) == 1 and feature_size(model) == 12
    rgb = 0.2 + 0.6 * torch.rand(2, 3, 32, 32)
    lab = convert_colors(rgb, "lab")
    gray = lab_to_rgb(lab * torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1))
    assert (gray - rgb).abs().max() > 0.1
    with torch.no_grad():
        torch.testing.assert_close(encode(model, gray), encode(model, rgb), rtol=1e-3, atol=1e-4)
        assert model(rgb).last_hidden_state.shape == (2, 12, 4, 4)


@pytest.mark.parametrize("space", ["ydbdr", "rgb"])
def test_a_configuration_with_the_old_spelling_is_read(space, tmp_path):
    """Files of older versions say ``colour_space``; the model_type keeps its spelling."""
    own = config(color_space=space).to_dict()
    own["colour_space"] = own.pop("color_space")
    (tmp_path / "config.json").write_text(json.dumps(own))
    read = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(read, ColorViewsConfig) and read.model_type == "colour_views"
    assert read.color_space == read.colour_space == space
    assert "colour_space" not in read.to_dict() and read.to_dict()["color_space"] == space
    del own["channel_groups"]
    assert len(ColorViewsConfig(**own).channel_groups) == (3 if space == "rgb" else 2)
