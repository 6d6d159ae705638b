"""From an encoder to a method: every form of encoder keeps its weights; settings, views and what cannot be used."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModel, CLIPModel, ViTForImageClassification

from hfcontrast import get_method
from hfcontrast.encoders.build import build_encoder
from hfcontrast.encoders.features import encode
from hfcontrast.encoders.subconfig import whole_config
from hfcontrast.errors import ArgumentError
from hfcontrast.methods.clip import CLIP
from hfcontrast.methods.dino import DINO
from hfcontrast.methods.simclr import SimCLR
from hfcontrast.testing.small import TINY_BACKBONE, TINY_RESNET, TINY_TOWERS, build

VIT = {"model_type": "vit", "intermediate_size": 64, **{k: v for k, v in TINY_BACKBONE.items() if k != "model_type"}}
VIEWS = [replace(view, size=32) for view in SimCLR.views]
SMALL = {"projection_dim": 8, "hidden_dim": 16}
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def trained(config, model_class=None):
    """A model whose weights are nobody's first ones."""
    config = whole_config(config, "vit")
    model = build_encoder(config) if model_class is None else model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model.eval()


def assert_same_features(method, encoder):
    with torch.no_grad():
        assert torch.equal(encode(method.encoder.eval(), PIXELS), encode(encoder, PIXELS))


@pytest.mark.parametrize("config", [TINY_BACKBONE, TINY_RESNET])
def test_a_model_of_transformers_and_its_folder(config, tmp_path):
    encoder = trained(config)
    encoder.save_pretrained(tmp_path)
    for given in (encoder, tmp_path, str(tmp_path)):
        method = SimCLR.from_encoder(given, views=VIEWS, temperature=0.3, **SMALL)
        assert_same_features(method, encoder)
        assert method.training and method.config.temperature == 0.3 and method.views == tuple(VIEWS)
        assert method.encoder is not encoder and not method.encoder.config.name_or_path
    assert SimCLR.views[0].size == 224


def test_a_model_with_a_head_and_one_in_half_precision():
    classifier = trained(VIT, ViTForImageClassification)
    method = SimCLR.from_encoder(classifier.to(torch.bfloat16), views=VIEWS, **SMALL)
    assert {parameter.dtype for parameter in method.parameters()} == {torch.float32}
    for name, value in method.encoder.state_dict().items():
        assert torch.equal(value, classifier.vit.state_dict()[name].float()), name


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("test_vit", {"img_size": 32}),
        ("vit_tiny_patch16_224", {"img_size": 32, "depth": 12, "num_classes": 5, "global_pool": "avg"}),
        ("resnet10t", {}),
    ],
)
def test_a_model_of_timm(name, arguments):
    import timm

    model = timm.create_model(name, **arguments).eval()
    method = SimCLR.from_encoder(model, views=VIEWS, **SMALL)
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(PIXELS), pre_logits=True)
        assert torch.equal(encode(method.encoder.eval(), PIXELS), expected)


def test_teachers_are_copies_of_the_given_encoder():
    encoder = trained(TINY_BACKBONE)
    views = [replace(view, size=32 if view.size == 224 else 16) for view in DINO.views]
    method = DINO.from_encoder(encoder, views=views, out_dim=16, hidden_dim=16, bottleneck_dim=8)
    for part in (method.encoder, method.teacher_encoder):
        for name, value in part.state_dict().items():
            assert torch.equal(value, encoder.state_dict()[name]), name
    output = method(pixel_values=torch.randn(2, 2, 3, 32, 32), local_pixel_values=torch.randn(2, 8, 3, 16, 16))
    assert output.loss.isfinite()


def test_two_towers_stay_together_and_give_their_image_tower():
    model = trained(TINY_TOWERS, CLIPModel)
    views = [replace(view, size=32) for view in CLIP.views]
    method = CLIP.from_encoder(model, views=views, max_scale=50)
    for name, value in method.encoder.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    images = SimCLR.from_encoder(model, views=VIEWS, **SMALL)
    with torch.no_grad():
        expected = model.vision_model(PIXELS).pooler_output
        assert torch.equal(images.encoder.eval()(PIXELS).pooler_output, expected)
    with pytest.raises(ArgumentError, match="learns from images and texts, and 'dinov2' has no text tower"):
        CLIP.from_encoder(trained(TINY_BACKBONE), views=views)


def test_views_that_are_none_are_said():
    for views, words in (
        (3, "got int$"),
        ([], "got none$"),
        ([VIEWS[0], 32], "got one of int$"),
        (VIEWS[0], r"got View: put it in a list, \[view\]"),
        ({"view": {"size": 32}}, "got dict: settings of the method's own views are set by replace"),
        (SimCLR, "give its views, method.views"),
    ):
        with pytest.raises(
            ValueError, match=f"views: expected a list of View, {words}" if views is not SimCLR else words
        ):
            SimCLR.from_encoder("nowhere/at-all", views=views)


def test_what_is_no_encoder_is_said(tmp_path):
    with torch.device("meta"), pytest.raises(ArgumentError, match="its weights are on the meta device"):
        SimCLR.from_encoder(build_encoder(whole_config(TINY_BACKBONE, "vit")), views=VIEWS)
    with pytest.raises(ArgumentError, match="expected a model of transformers .*; got Linear"):
        SimCLR.from_encoder(torch.nn.Linear(2, 2))
    with pytest.raises(ArgumentError, match="got dict"):
        SimCLR.from_encoder({"model_type": "vit"})
    with pytest.raises(ArgumentError, match="is a method of hfcontrast: give its encoder"):
        SimCLR.from_encoder(build(get_method("byol")))
    with pytest.raises(ArgumentError, match="is neither a folder with a model nor a model on the Hub"):
        SimCLR.from_encoder(tmp_path)
    with pytest.raises(ArgumentError, match="no such setting; did you mean 'temperature'"):
        SimCLR.from_encoder(trained(TINY_BACKBONE), temprature=0.1)
    with pytest.raises(ArgumentError, match="view '.*' is 30 px"):
        SimCLR.from_encoder(
            trained(TINY_BACKBONE | {"patch_size": 7, "image_size": 28}), views=[replace(VIEWS[0], size=30)]
        )
    with pytest.raises(ArgumentError, match="needs input_ids|takes no images"):
        SimCLR.from_encoder(
            AutoModel.from_config(whole_config({**TINY_TOWERS["text_config"], "model_type": "clip_text_model"}, "vit"))
        )


def test_a_model_of_timm_with_layers_of_its_own_is_said():
    import timm

    model = timm.create_model("test_vit", img_size=32)
    model.blocks = model.blocks[:1]
    with pytest.raises(ArgumentError, match="this is not timm's 'test_vit' as its name"):
        SimCLR.from_encoder(model, views=VIEWS)


@pytest.mark.parametrize(
    "name, arguments, said",
    [
        ("test_vit", {"img_size": 32, "act_layer": "relu"}, "blocks.0.mlp.act is ReLU, not GELU"),
        ("test_vit", {"img_size": 32, "drop_rate": 0.1}, "head_drop.p is 0.1, not 0.0"),
        ("resnet10t", {"output_stride": 8}, "layer3.0.* is 2, not 1"),
        ("resnet10t", {"drop_path_rate": 0.3}, "layer2.0.drop_path is one more"),
        ("resnet10t", {"features_only": True}, "the model is FeatureListNet, not ResNet"),
    ],
)
def test_a_model_of_timm_made_with_other_arguments_is_said(name, arguments, said):
    import timm

    with torch.device("meta"):
        model = timm.create_model(name, **arguments)
    with pytest.raises(ArgumentError, match=f"this is not timm's '{name}'.*{said}.*TimmWrapperConfig"):
        SimCLR.from_encoder(model, views=VIEWS)


def test_a_model_of_timm_with_another_forward_is_said():
    import timm

    model = timm.create_model("test_vit", img_size=32)
    own = model.forward_features
    model.forward_features = lambda pixels: own(pixels).relu()
    with pytest.raises(ArgumentError, match="it makes other features of the same image"):
        SimCLR.from_encoder(model, views=VIEWS, **SMALL)
    assert model.training


def test_a_model_of_timm_keeps_its_pooling_and_may_have_any_classifier():
    import timm

    model = timm.create_model("resnet10t", global_pool="max").eval()
    model.fc = torch.nn.Identity()
    method = SimCLR.from_encoder(model, views=VIEWS, **SMALL)
    with torch.no_grad():
        assert torch.equal(encode(method.encoder.eval(), PIXELS), model(PIXELS))


def test_what_is_frozen_stays_frozen():
    import timm

    encoder = trained(TINY_BACKBONE)
    encoder.embeddings.requires_grad_(False)
    method = SimCLR.from_encoder(encoder, views=VIEWS, **SMALL)
    frozen = {name for name, parameter in method.encoder.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in encoder.named_parameters() if name.startswith("embeddings.")}
    model = timm.create_model("test_vit", img_size=32)
    model.patch_embed.requires_grad_(False)
    method = SimCLR.from_encoder(model, views=VIEWS, **SMALL)
    frozen = {name for name, parameter in method.encoder.named_parameters() if not parameter.requires_grad}
    assert frozen == {"timm_model.patch_embed.proj.weight", "timm_model.patch_embed.proj.bias"}
    towers = trained(TINY_TOWERS, CLIPModel)
    towers.vision_model.requires_grad_(False)
    views = [replace(view, size=32) for view in CLIP.views]
    kept = CLIP.from_encoder(towers, views=views).encoder
    assert not any(parameter.requires_grad for parameter in kept.vision_model.parameters())
    assert all(parameter.requires_grad for parameter in kept.text_model.parameters())
    with pytest.warns(UserWarning, match="all parameters of the encoder are frozen .requires_grad=False., and stay so"):
        SimCLR.from_encoder(towers, views=VIEWS, **SMALL)


def test_the_views_are_saved_with_the_method(tmp_path):
    encoder = trained(TINY_BACKBONE)
    SimCLR.from_encoder(encoder, views=VIEWS, **SMALL).save_pretrained(tmp_path / "given")
    loaded = AutoModel.from_pretrained(tmp_path / "given")
    assert loaded.views == tuple(VIEWS) and SimCLR.views[0].size == 224
    loaded.views = tuple(replace(view, size=24, blur=0.25) for view in VIEWS)
    loaded.save_pretrained(tmp_path / "changed")
    again = SimCLR.from_pretrained(tmp_path / "changed")
    assert again.views == loaded.views
    again.views = SimCLR.views
    again.save_pretrained(tmp_path / "own")
    settings = json.loads((tmp_path / "own/config.json").read_text())
    assert "training_views" not in settings  # as earlier versions wrote it
    assert SimCLR.from_pretrained(tmp_path / "own").views == SimCLR.views


def test_views_that_a_file_cannot_have_are_said():
    config = SimCLR.config_class(backbone_config=TINY_BACKBONE, training_views=[{"name": "view", "dimension": 3}])
    with pytest.raises(ArgumentError, match="training_views of the method's configuration: .*dimension"):
        SimCLR(config)
    with pytest.raises(ArgumentError, match="training_views: .*SimCLR has no such setting"):
        SimCLR.from_encoder(trained(TINY_BACKBONE), training_views=[])


def test_what_the_files_lack_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    trained(TINY_RESNET).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    gone = next(iter(weights))
    save_file(
        {name: value for name, value in weights.items() if name != gone},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.warns(UserWarning, match="lacks tensors of the encoder, which start at random"):
        SimCLR.from_encoder(tmp_path, views=VIEWS, **SMALL)
