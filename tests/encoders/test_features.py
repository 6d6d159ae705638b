"""Encoders: what they are built from, and their features as one vector an image."""

import pytest
import timm
import torch
from transformers import AutoConfig, AutoModel

from hfcontrast.encoders import build_encoder, encode, feature_size
from hfcontrast.encoders.families import family_of
from hfcontrast.encoders.features import check_image_size, feature_expression
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.encoders.weights import load_weights
from hfcontrast.errors import RecipeError

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}
BACKBONES = {
    "vit": ({"model_type": "vit", **TINY}, 16),
    "dinov2": ({"model_type": "dinov2", **TINY}, 16),
    "resnet": (
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"},
        12,
    ),
    "convnext": ({"model_type": "convnext", "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}, 20),
    "swin": ({"model_type": "swin", "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}, 24),
    "small_resnet 18": ({"model_type": "small_resnet"}, 512),
    "small_resnet 34": ({"model_type": "small_resnet", "depth": 34}, 512),
    "small_resnet 50": ({"model_type": "small_resnet", "depth": 50}, 2048),
    "timm vit": ("timm/vit_tiny_patch16_224", 192),
    "timm resnet": ("timm/resnet18", 512),
    "timm mobilenet": ("timm/mobilenetv3_small_050", 1024),
}


@pytest.fixture
def encoder(request):
    backbone, _ = BACKBONES[request.param]
    return build_encoder(backbone_config(backbone, [32, 16])).eval()


@pytest.mark.parametrize("encoder", BACKBONES, indirect=True, ids=str)
def test_features_are_one_vector_an_image(encoder, request):
    width = BACKBONES[request.node.callspec.params["encoder"]][1]
    assert feature_size(encoder) == width
    for size in (32, 64 if encoder.config.model_type in ("convnext", "swin") else 16):
        features = encode(encoder, torch.randn(2, 3, size, size))
        assert features.shape == (2, width)
        assert features.std(dim=0).max() > 0  # the two images differ
    features.square().sum().backward()  # distributed training waits for the gradient of every trainable parameter
    assert not [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None]
    outputs = encoder(pixels := torch.randn(2, 3, 32, 32))
    documented = eval(feature_expression(encoder), {"outputs": outputs})
    torch.testing.assert_close(documented, encode(encoder, pixels))


def test_a_vit_has_no_untrained_pooler_and_gives_its_class_token():
    encoder = build_encoder(backbone_config(BACKBONES["vit"][0], [32])).eval()
    assert not any("pooler" in name for name in encoder.state_dict())
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encode(encoder, pixels), encoder(pixels).last_hidden_state[:, 0])


def test_position_embeddings_are_interpolated_only_for_other_sizes():
    encoder = build_encoder(backbone_config(BACKBONES["vit"][0], [32])).eval()
    pixels = torch.randn(2, 3, 48, 48)
    expected = encoder(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    torch.testing.assert_close(encode(encoder, pixels), expected)


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "resnet18"])
def test_timms_initialization_is_intact(architecture):
    config = backbone_config(f"timm/{architecture}", [32])
    encoder = build_encoder(config)
    original = timm.create_model(architecture, num_classes=0, **config.model_args).state_dict()
    weights = encoder.timm_model.state_dict()
    assert weights.keys() == original.keys()
    for name, value in original.items():
        if value.is_floating_point() and value.numel() > 1:
            assert weights[name].std().item() == pytest.approx(value.std().item(), rel=0.25, abs=1e-6), name
            nearly = 0.1 * float(value.std()) + 1e-2
            assert weights[name].mean().item() == pytest.approx(value.mean().item(), abs=nearly), name
    if architecture == "resnet18":  # the last normalization of every block starts at zero
        assert all(value.abs().max() == 0 for name, value in weights.items() if name.endswith("bn2.weight"))


def test_a_transformers_configuration():
    config = backbone_config({"model_type": "vit", "hidden_size": 24, "num_attention_heads": 2}, [96, 32])
    assert (config.model_type, config.hidden_size, config.image_size) == ("vit", 24, 96)
    assert backbone_config({"model_type": "vit", "image_size": 64}, [96]).image_size == 64
    assert not hasattr(backbone_config({"model_type": "resnet"}, [96]), "image_size")
    assert backbone_config({"model_type": "small_resnet", "depth": 50}, [32]).hidden_sizes == [256, 512, 1024, 2048]


def test_timm_configurations_know_the_sizes():
    config = backbone_config("timm/vit_tiny_patch16_224", [64, 32])
    assert config.model_args == {"img_size": 64, "dynamic_img_size": True}
    assert backbone_config("timm/vit_tiny_patch16_224", [64]).model_args == {"img_size": 64}
    assert backbone_config("timm/resnet18", [64, 32]).model_args == {}
    given = {"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224", "model_args": {"img_size": 48}}
    assert backbone_config(given, [64]).model_args == {"img_size": 48}


@pytest.mark.parametrize(
    "backbone, words",
    [
        ("facebook/dinov2-small", "write timm/ARCHITECTURE or {pretrained: facebook/dinov2-small}"),
        ("timm/resnet19", "timm has no architecture 'resnet19'; there are resnet"),
        ({"model_type": "vit", "hidden_size": "wide"}, "ViTConfig does not accept"),
        ({"model_type": "timm_wrapper", "architecture": "resnet18", "model_args": {"nope": 1}}, "timm cannot build"),
        ({"pretrained": "no/where"}, "neither a folder with a model nor a model on the Hub"),
    ],
)
def test_what_cannot_be_built_is_explained(backbone, words):
    with pytest.raises(RecipeError) as error:
        backbone_config(backbone, [32])
    assert words in str(error.value)


@pytest.mark.parametrize("name", ["vit", "small_resnet 18", "timm resnet"])
def test_pretrained_weights_are_loaded(name, tmp_path):
    source = build_encoder(backbone_config(BACKBONES[name][0], [32])).eval()
    source.save_pretrained(tmp_path)
    backbone = {"pretrained": str(tmp_path)}
    encoder = build_encoder(backbone_config(backbone, [64])).eval()
    pixels = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(encode(encoder, pixels), encode(source, pixels))
    total = len(encoder.state_dict())
    assert load_weights(encoder, backbone).sentence == f"{total} of {total} encoder tensors loaded from {tmp_path}"
    torch.testing.assert_close(encode(encoder, pixels), encode(source, pixels))


def test_the_vision_half_of_a_clip_model_is_loaded(tmp_path):
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vision, text = {**tower, "image_size": 32, "patch_size": 8}, {**tower, "vocab_size": 50}
    clip = AutoModel.from_config(AutoConfig.for_model("clip", vision_config=vision, text_config=text)).eval()
    clip.save_pretrained(tmp_path)
    encoder = build_encoder(backbone_config({"pretrained": str(tmp_path)}, [32])).eval()
    load_weights(encoder, {"pretrained": str(tmp_path)})
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encode(encoder, pixels), clip.vision_model(pixels).pooler_output)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    source = build_encoder(backbone_config({"model_type": "vit", **TINY}, [32]))
    source.save_pretrained(tmp_path)
    deeper = build_encoder(backbone_config({"model_type": "vit", **TINY, "num_hidden_layers": 2}, [32]))
    with pytest.raises(RecipeError, match=r"lacks \d+ of the encoder's \d+ tensors, among them .*1"):
        load_weights(deeper, {"pretrained": str(tmp_path)})
    with pytest.raises(RecipeError, match="'no/where' cannot be loaded"):
        load_weights(deeper, {"pretrained": "no/where"})
    assert load_weights(deeper, "timm/resnet18") is None
    assert load_weights(deeper, {"model_type": "vit"}) is None


def test_sizes_that_an_encoder_cannot_take_are_refused():
    vit = build_encoder(backbone_config({"model_type": "vit", **TINY}, [32])).train()
    check_image_size(vit, 48, "view 'local'")
    assert vit.training
    with pytest.raises(RecipeError, match="view 'local' is 30 px, but encoder 'vit' cuts patches of 8 px.*24 or 32"):
        check_image_size(vit, 30, "view 'local'")
    fixed = build_encoder(backbone_config("timm/vit_tiny_patch16_224", [32])).train()
    refused = "view 'local' is 64 px, which encoder 'vit_tiny_patch16_224' cannot take"
    with pytest.raises(RecipeError, match=refused) as e:
        check_image_size(fixed, 64, "view 'local'")
    assert "dynamic_img_size" in str(e.value) and fixed.training
    with pytest.raises(RecipeError, match="cuts patches of 16 px: use a multiple, such as 16 or 32"):
        check_image_size(fixed, 24, "publish.image_size")
    with pytest.raises(RecipeError, match="use a multiple, such as 16 or 32"):
        check_image_size(fixed, 8, "publish.image_size")


@pytest.mark.parametrize(
    "fields, size, words",
    [
        (
            {"model_type": "swin"},
            32,
            "windows are of 7 x 7 patches, and at 32 px its last stage has 1 x 1: take images of at least 224",
        ),
        (
            {"model_type": "swin", "window_size": 4, "depths": [1, 1], "num_heads": [1, 1], "embed_dim": 8},
            24,
            "at least 32 px, or",
        ),
        ({"model_type": "hiera"}, 50, "its units are of 32 px: use a multiple, such as 32 or 64"),
        ({"model_type": "hiera"}, 20, "its units are of 32 px: use a multiple, such as 32 or 64"),
    ],
)
def test_sizes_that_an_architectures_tokens_do_not_allow(fields, size, words):
    with torch.device("meta"):
        encoder = build_encoder(backbone_config(fields, [size]))
    with pytest.raises(RecipeError, match=words):
        check_image_size(encoder, size, "view 'all'")


@pytest.mark.parametrize("fields, size", [({"model_type": "swin"}, 224), ({"model_type": "hiera"}, 64)])
def test_sizes_that_they_allow(fields, size):
    with torch.device("meta"):
        encoder = build_encoder(backbone_config(fields, [size]))
    assert family_of(encoder).size_problem(encoder, size) is None
    check_image_size(encoder, size, "view 'all'")


def test_small_resnets_keep_the_resolution_of_small_images():
    encoder = build_encoder(backbone_config({"model_type": "small_resnet"}, [32])).eval()
    outputs = encoder(torch.randn(1, 3, 32, 32), output_hidden_states=True)
    assert [tuple(state.shape[1:]) for state in outputs.hidden_states] == [
        (64, 32, 32),
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
    ]
    # ResNet-18 without its classifier has 11,176,512 parameters, 7x7 stem included; the 3x3 stem has 7,680 fewer.
    assert sum(p.numel() for p in encoder.parameters()) == 11_176_512 - 64 * 3 * (49 - 9)


def test_the_width_is_that_of_the_features_where_the_configuration_says_another():
    sizes = {"image_size": 32, "embed_dim": 8, "depths": [1, 1, 1, 1]}
    encoder = build_encoder(backbone_config({"model_type": "focalnet", **sizes}, [32])).train()
    assert encoder.config.hidden_sizes[-1] != feature_size(encoder) == 64 and encoder.training
    assert encode(encoder, torch.zeros(2, 3, 32, 32)).shape == (2, 64)
    encoder.forward = None  # it cannot be run
    assert feature_size(encoder) == 64
    unknown = build_encoder(backbone_config({"model_type": "vit", **TINY}, [32]))
    unknown.forward = None
    assert feature_size(unknown) == unknown.config.hidden_size


@pytest.mark.parametrize("name", ["beit", "data2vec-vision"])
def test_what_is_tried_without_memory_leaves_no_positions_without_values(name):
    config = backbone_config({"model_type": name, **TINY, "use_relative_position_bias": True}, [32])
    with torch.device("meta"):
        encoder = build_encoder(config)
    bias = next(module for module in encoder.modules() if hasattr(module, "generate_relative_position_index"))
    check_image_size(encoder, 24, "view 'all'")  # a size that no other test takes
    assert bias.generate_relative_position_index((3, 3)).device.type == "cpu"
