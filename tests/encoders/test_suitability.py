"""Which architectures can be an encoder of images: the others are refused in one sentence, and the features of all are whole."""

import random

import pytest
import torch
from transformers import CONFIG_MAPPING
from vision_types import SIZE, tiny_backbone

from hfcontrast.encoders import build_encoder, encode, feature_size, pooling_of
from hfcontrast.encoders.blank_image import on_blank_image
from hfcontrast.encoders.features import check_image_size, feature_expression
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.encoders.suitability import require_encoder, require_features
from hfcontrast.encoders.weights import load_weights
from hfcontrast.errors import ArgumentError

REFUSED = {
    "bert": "'bert' takes no images (pixel_values): take an encoder of images, such as vit",
    "llava": "needs input_ids beside the images: take the encoder that it has for images, model_type: clip_vision_model",
    "siglip2_vision_model": "takes patches of images of several sizes with their positions, and not images",
    "uvdoc": "gives no features of it",
    "flava": "needs input_ids beside the images",
    "detr": "'detr' describes the objects that its queries find, not the image",
    "sam": "gives masks, not features of the image: take the encoder that it has for images, model_type: sam_vision_model",
    "timesformer": "takes videos",
    "timm_backbone": "cannot be loaded from a folder once it is published: take an encoder of images, such as vit, convnext or timm/",
    "rt_detr_resnet": "transformers' AutoModel does not build 'rt_detr_resnet'",
}
# A kind of features each: pooled after a kept normalization, pooled to a map, maps of a backbone, channels last, one sequence for
# all images, named otherwise, maps, tokens without a class token; configurations that take no number as image_size.
KINDS = ["hiera", "textnet", "hgnet_v2", "sam2_vision_model", "pixtral", "radio", "mobilevit", "segformer", "yolos"]
KINDS += ["granite_docling_vision", "cvt", "sam3_vision_model"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_encoder_of_images_is_refused(name):
    with pytest.raises(ArgumentError) as error:
        require_encoder(CONFIG_MAPPING[name]())
    assert REFUSED[name] in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["vit", "clip", "imagegpt", "signal_encoder", "small_resnet", "timm_wrapper", "hgnet_v2"]
)
def test_encoders_pass(name):
    require_encoder(CONFIG_MAPPING[name]())


@pytest.mark.parametrize("name", KINDS)
def test_features_are_whole_and_written_as_they_are_read(name):
    encoder = build_encoder(backbone_config(tiny_backbone(name), [SIZE]))
    before = torch.get_rng_state(), random.getstate()
    width, expression = feature_size(encoder), feature_expression(encoder)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert all(module.training for module in encoder.modules())
    pixels = torch.randn(2, 3, SIZE, SIZE)
    features = encode(encoder, pixels)
    assert features.shape == (2, width)
    features.sum().backward()  # distributed training waits for the gradient of every parameter
    assert [key for key, value in encoder.named_parameters() if value.requires_grad and value.grad is None] == []
    encoder.eval()
    with torch.no_grad():
        read = eval(expression, {"outputs": encoder(pixels), "pixel_values": pixels})
        assert torch.equal(read, encode(encoder, pixels))
    require_features(encoder.to("meta"))
    assert feature_size(encoder) == width


def test_hieras_features_are_of_the_whole_image(tmp_path):
    backbone = backbone_config(tiny_backbone("hiera"), [SIZE])
    encoder = build_encoder(backbone).eval()
    pixels = torch.randn(2, 3, SIZE, SIZE)
    tokens = encoder(pixels).last_hidden_state
    torch.testing.assert_close(encode(encoder, pixels), encoder.pooler.layernorm(tokens.mean(dim=1)))
    source = build_encoder(backbone)  # released after masked image modeling: without the normalization after the mean
    source.pooler = None
    assert pooling_of(source).expression == "outputs.last_hidden_state.mean(1)"
    source.save_pretrained(tmp_path)
    assert "at random: pooler.layernorm.weight" in load_weights(encoder, {"pretrained": str(tmp_path)}).sentence
    torch.testing.assert_close(encoder(pixels).last_hidden_state, source.eval()(pixels).last_hidden_state)


def test_what_gives_no_features_is_refused_without_memory_for_its_weights():
    with torch.device("meta"):
        encoder = build_encoder(backbone_config(tiny_backbone("kosmos-2"), [SIZE]))
    with pytest.raises(ArgumentError, match="'kosmos-2' gives no features of an image: You have to specify"):
        require_features(encoder)
    tiny = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "patch_size": 8,
    }
    gray = build_encoder(backbone_config({"model_type": "vit", "num_channels": 1, **tiny}, [32]))
    require_features(gray)
    with pytest.raises(ArgumentError, match="'vit' takes images of 1 channel .*are read with 3 .*: take other weights"):
        check_image_size(gray, 32, "view 'all'")


def test_sizes_of_the_run_are_tried_first():
    backbone = backbone_config({"model_type": "resnet"}, [48])
    with torch.device("meta"):
        encoder = build_encoder(backbone)
    sizes = []

    def fails_but_at(model, pixels):
        sizes.append(pixels.shape[-1])
        return {48: "taken"}[pixels.shape[-1]]

    assert on_blank_image(encoder, fails_but_at, [40, 48]) == "taken" and sizes == [40, 48]
    with pytest.raises(ArgumentError, match="'resnet' gives no features of an image: KeyError: 40"):
        on_blank_image(encoder, lambda model, pixels: {}[pixels.shape[-1]], [40, 48])


def test_the_side_of_images_is_written_as_a_configuration_takes_it():
    assert backbone_config({"model_type": "yolos"}, [64]).image_size == [64, 64]
    assert backbone_config({"model_type": "vit"}, [64]).image_size == 64
    with pytest.raises(ArgumentError, match=r"ViTConfig does not accept \{'hidden_size': 'wide'\}"):
        backbone_config({"model_type": "vit", "hidden_size": "wide"}, [64])


def test_a_blank_image_leaves_an_encoder_as_it_was():
    config = CONFIG_MAPPING["swin"](
        image_size=64, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=8
    )
    with torch.device("meta"):
        encoder = build_encoder(config)
    before = [(vars(m).get("window_size"), vars(m).get("shift_size"), m.training) for m in encoder.modules()]
    on_blank_image(encoder, encode, [16])  # of which the last stage has 4 x 4 patches
    assert [(vars(m).get("window_size"), vars(m).get("shift_size"), m.training) for m in encoder.modules()] == before
    encoder.train()
    on_blank_image(encoder, encode, [16])
    assert all(module.training for module in encoder.modules())


@pytest.mark.parametrize("name", ["pp_ocrv5_mobile_rec", "pp_ocrv6_tiny_rec"])
def test_sizes_that_are_too_small_are_told(name):
    if name not in CONFIG_MAPPING:
        pytest.skip("transformers does not have it")
    with torch.device("meta"):
        encoder = build_encoder(CONFIG_MAPPING[name]())
    with pytest.raises(ArgumentError, match="which encoder .* cannot take: it takes images of at least (65|33) px"):
        check_image_size(encoder, 32, "view 'all'")
