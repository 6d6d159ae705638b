"""Models with an image and a text tower: their configuration, their first weights, their features, and pairs of any two."""

import math
import os
import subprocess
import sys

import pytest
import timm
import torch
from transformers import CONFIG_MAPPING, AutoModel

from hfcontrast.encoders import build_encoder, encode, feature_size
from hfcontrast.encoders.features import check_image_size, feature_expression, patch_size
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.encoders.two_towers import freeze_tower, image_features, is_two_towers, text_features
from hfcontrast.errors import RecipeError

TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = {"vocab_size": 50, "max_length": 12, "bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 49}
BERT_TEXT = {"vocab_size": 50, "max_length": 12, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
PATCHES = {**TOWER, "patch_size": 8}
CLIP = {"model_type": "clip", "projection_dim": 10, "text_config": TOWER, "vision_config": PATCHES}
SIGLIP = {"model_type": "siglip", "text_config": TOWER, "vision_config": PATCHES}
CONVNEXT = {"model_type": "convnext", "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}
VISION = {
    "vit": {"model_type": "vit", **PATCHES},
    "dinov2": {"model_type": "dinov2", **PATCHES},
    "dinov3_vit": {"model_type": "dinov3_vit", **PATCHES},
    "clip_vision_model": {"model_type": "clip_vision_model", **PATCHES},
    "siglip_vision_model": {"model_type": "siglip_vision_model", **PATCHES},
    "convnext": CONVNEXT,
    "swin": {"model_type": "swin", "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
    "timm vit": {"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224", "model_args": {"depth": 1}},
    "timm resnet": "timm/resnet18",
    "timm mobilenet": "timm/mobilenetv3_small_050",
}
TEXTS = {name: {"model_type": name, **TOWER} for name in ("bert", "roberta", "xlm-roberta", "mpnet", "clip_text_model")}
TEXTS["albert"] = {"model_type": "albert", "embedding_size": 8, **TOWER}
# Every image tower and every text tower once.
PAIRS = list(zip(VISION, [*TEXTS, "bert", "clip_text_model", "roberta", "bert"]))


def pair(vision, text, **more):
    return {"model_type": "vision-text-dual-encoder", "projection_dim": 10, "vision": vision, "text": text, **more}


def facts(text: str) -> dict:
    """What a tokenizer says that suits a text tower."""
    return TEXT if text == "clip_text_model" else BERT_TEXT


def tokens(padding: int = 49) -> dict[str, torch.Tensor]:
    """Two texts, the second shorter."""
    ids = torch.tensor([[48, 5, 6, 7, 49], [48, 8, 49, padding, padding]])
    return {"input_ids": ids, "attention_mask": (torch.arange(5) < torch.tensor([[5], [3]])).long()}


# Configurations


def test_views_and_tokenizer_say_what_the_recipe_of_clip_leaves_out():
    config = backbone_config(CLIP, [32, 16], TEXT)
    text, vision = config.text_config, config.vision_config
    assert (text.vocab_size, text.max_position_embeddings) == (50, 12)
    assert (text.bos_token_id, text.eos_token_id, text.pad_token_id) == (48, 49, 49)
    assert (vision.image_size, vision.patch_size, config.projection_dim) == (32, 8, 10)
    assert text.projection_dim == vision.projection_dim == 10  # for who loads one tower alone
    assert CLIP["text_config"] == TOWER and "image_size" not in CLIP["vision_config"]  # the recipe's own are untouched


def test_the_recipe_goes_before_the_tokenizer():
    more = {"vocab_size": 64, "max_position_embeddings": 20, "pad_token_id": 3}
    config = backbone_config(
        {**CLIP, "text_config": {**TOWER, **more}, "vision_config": {"image_size": 64}}, [32], TEXT
    )
    assert {name: getattr(config.text_config, name) for name in more} == more
    assert config.vision_config.image_size == 64


def test_facts_can_be_attributes():
    class Facts:
        vocab_size, max_length, bos_token_id, eos_token_id, pad_token_id = 60, 9, 58, 59, 59

    text = backbone_config(CLIP, [32], Facts()).text_config
    assert (text.vocab_size, text.max_position_embeddings, text.eos_token_id) == (60, 9, 59)


def test_siglips_towers_end_with_one_width():
    config = backbone_config({**SIGLIP, "text_config": {**TOWER, "hidden_size": 8}}, [32], BERT_TEXT)
    assert config.text_config.projection_size == 16 and config.text_config.max_position_embeddings == 12
    assert feature_size(build_encoder(config)) == 16
    with pytest.raises(RecipeError, match="projection_size is 12, but the image tower gives 16 features"):
        backbone_config({**SIGLIP, "text_config": {**TOWER, "projection_size": 12}}, [32], BERT_TEXT)
    with pytest.raises(RecipeError, match="vision_config.vision_use_head"):
        backbone_config({**SIGLIP, "vision_config": {**PATCHES, "vision_use_head": False}}, [32], BERT_TEXT)


def test_positions_of_robertas_begin_after_the_padding():
    text = backbone_config(pair(VISION["vit"], TEXTS["roberta"]), [32], {**BERT_TEXT, "pad_token_id": 4}).text_config
    assert text.max_position_embeddings == 12 + 5
    encoder = build_encoder(backbone_config(pair(VISION["vit"], TEXTS["roberta"]), [32], BERT_TEXT)).eval()
    assert text_features(encoder, torch.full((1, 12), 7)).shape == (1, 10)  # as long as texts get


@pytest.mark.parametrize(
    "backbone, text, words",
    [
        ({**CLIP, "text_config": {"hiden_size": 8}}, TEXT, "text_config.hiden_size: unknown key; did you mean 'hidden_size'"),
        ({**CLIP, "vision_config": {"zzzzz": 8}}, TEXT, "vision_config.zzzzz: unknown key; CLIPVisionConfig has no"),
        ({**CLIP, "text_config": {"vocab_size": 49}}, TEXT, "vocab_size is 49, but the tokenizer has 50 entries"),
        ({**CLIP, "text_config": {"max_position_embeddings": 11}}, TEXT, "texts have up to 12 tokens: give at least 12"),
        ({**CLIP, "text_config": {"eos_token_id": 3}}, TEXT, "eos_token_id is 3, but the tokenizer ends texts with 49"),
        (CLIP, {**TEXT, "eos_token_id": None}, "needs a tokenizer with an end token"),
        (CLIP, {**TEXT, "eos_token_id": 2}, "end token has the id 2"),
        ({**CLIP, "text_config": {"hidden_size": 15}}, TEXT, "CLIPConfig does not accept"),
        (pair(VISION["vit"], {**TEXTS["bert"], "hiden_size": 8}), BERT_TEXT, "text.hiden_size: unknown key"),
        (pair(VISION["vit"], {"model_type": "bertt"}), BERT_TEXT, "text: transformers has no model_type 'bertt'"),
        (pair(VISION["vit"], "timm/resnet18"), BERT_TEXT, "text: expected a mapping"),
        (pair(VISION["vit"], None), BERT_TEXT, "text is missing"),
        ({"model_type": "clipp"}, TEXT, "transformers has no model_type 'clipp'"),
    ],
)  # fmt: skip
def test_what_cannot_be_configured_is_explained(backbone, text, words):
    with pytest.raises(RecipeError) as error:
        backbone_config(backbone, [32], text)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "vision, text, words",
    [
        ({"model_type": "resnet"}, TEXTS["bert"], "vision: 'resnet' cannot be one of two towers: its pooled output has the shape (N, 2048, 1, 1)"),
        ({"model_type": "vit_mae", **PATCHES}, TEXTS["bert"], "vision: 'vit_mae' cannot be one of two towers: it gives no pooled output"),
        ({"model_type": "small_resnet"}, TEXTS["bert"], "vision: 'small_resnet' cannot be one of two towers: transformers alone"),
        (VISION["vit"], {"model_type": "distilbert", "n_layers": 1, "n_heads": 2, "dim": 16}, "text: 'distilbert' cannot be one of two towers: it gives no pooled output"),
        (VISION["vit"], {"model_type": "electra", **TOWER}, "take bert, roberta, xlm-roberta, mpnet, albert or clip_text_model"),
        (VISION["vit"], {"model_type": "siglip_text_model", **TOWER}, "text: 'siglip_text_model' cannot be one of two towers"),
        (VISION["vit"], {"model_type": "deberta-v2", **TOWER}, "text: 'deberta-v2' cannot be one of two towers: it gives no pooled output"),
    ],
)  # fmt: skip
def test_towers_that_transformers_cannot_put_together_are_refused(vision, text, words):
    with pytest.raises(RecipeError) as error:
        backbone_config(pair(vision, text), [32], BERT_TEXT)
    assert words in str(error.value)


# Features and gradients


@pytest.mark.parametrize("backbone", [CLIP, SIGLIP], ids=lambda backbone: backbone["model_type"])
def test_features_of_both_towers(backbone):
    encoder = build_encoder(backbone_config(backbone, [32], TEXT)).eval()
    width = feature_size(encoder)
    assert is_two_towers(encoder) and width == (10 if backbone is CLIP else 16) and patch_size(encoder) == 8
    batch, pixels = tokens(), torch.randn(2, 3, 32, 32)
    texts, images = text_features(encoder, **batch), image_features(encoder, pixels)
    assert texts.shape == images.shape == (2, width)
    torch.testing.assert_close(encode(encoder, pixels), images)
    whole = encoder(**batch, pixel_values=pixels)
    torch.testing.assert_close(torch.nn.functional.normalize(texts, dim=-1), whole.text_embeds)
    torch.testing.assert_close(torch.nn.functional.normalize(images, dim=-1), whole.image_embeds)
    documented = eval(feature_expression(encoder), {"model": encoder, "pixel_values": pixels})
    torch.testing.assert_close(documented, images)
    assert encode(encoder, torch.randn(2, 3, 48, 40)).shape == (2, width)  # position embeddings are interpolated
    check_image_size(encoder.train(), 48, "view 'view'")
    assert encoder.training
    with pytest.raises(RecipeError, match="encoder '.*_vision_model' cuts patches of 8 px"):
        check_image_size(encoder, 44, "view 'view'")


def test_clip_reads_a_text_at_its_first_end_token():
    encoder = build_encoder(backbone_config(CLIP, [32], TEXT)).eval()
    batch = tokens()
    features = text_features(encoder, **batch)
    hidden = encoder.text_model(**batch).last_hidden_state
    torch.testing.assert_close(features, encoder.text_projection(hidden[[0, 1], [4, 2]]))
    longer = {
        name: torch.nn.functional.pad(value, (0, 2), value=pad) for (name, value), pad in zip(batch.items(), (49, 0))
    }
    torch.testing.assert_close(text_features(encoder, **longer), features)


@pytest.mark.parametrize("vision, text", PAIRS)
def test_gradients_reach_every_parameter_of_a_pair(vision, text):
    """Distributed training would wait forever for one that is not reached."""
    encoder = build_encoder(backbone_config(pair(VISION[vision], TEXTS[text]), [32], facts(text)))
    pixels = torch.randn(4, 3, 32, 32)
    images, texts = (
        image_features(encoder, pixels),
        text_features(encoder, **tokens(0 if text != "clip_text_model" else 49)),
    )
    (images.square().mean() + texts.square().mean() + encoder.logit_scale).backward()
    assert feature_size(encoder) == images.shape[1] == texts.shape[1] == 10
    assert not [name for name, p in encoder.named_parameters() if p.requires_grad and p.grad is None]


def test_a_pair_interpolates_the_positions_of_its_image_tower_where_it_has_some():
    encoder = build_encoder(backbone_config(pair(VISION["vit"], TEXTS["bert"]), [32], BERT_TEXT)).eval()
    pixels = torch.randn(2, 3, 48, 48)
    pooled = encoder.vision_model(pixels, interpolate_pos_encoding=True).pooler_output
    torch.testing.assert_close(encode(encoder, pixels), encoder.visual_projection(pooled))
    convolutions = build_encoder(backbone_config(pair(CONVNEXT, TEXTS["bert"]), [32], BERT_TEXT)).eval()
    assert encode(convolutions, torch.randn(2, 3, 64, 64)).shape == (2, 10)


ELSEWHERE = """
import sys
sys.modules["hfcontrast"] = None  # any import of it fails
import torch
from transformers import AutoModel
torch.set_num_threads(1)
root, found = sys.argv[1], {}
given = torch.load(f"{root}/given.pt")
for name, batch in given.items():
    model, info = AutoModel.from_pretrained(f"{root}/{name}", output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        outputs = model.eval()(**batch)
    found[name] = (type(model).__name__, outputs.image_embeds, outputs.text_embeds, outputs.logits_per_image)
torch.save(found, f"{root}/found.pt")
"""


def test_saved_models_load_with_transformers_alone(tmp_path):
    backbones = {f"{vision} and {text}": (pair(VISION[vision], TEXTS[text]), facts(text)) for vision, text in PAIRS}
    backbones |= {"clip": (CLIP, TEXT), "siglip": (SIGLIP, TEXT)}
    given, expected = {}, {}
    for name, (backbone, text) in backbones.items():
        encoder = build_encoder(backbone_config(backbone, [32], text)).eval()
        encoder.save_pretrained(tmp_path / name)
        given[name] = {**tokens(text["pad_token_id"]), "pixel_values": torch.randn(2, 3, 32, 32)}
        with torch.no_grad():
            images = image_features(encoder, given[name]["pixel_values"])
            texts = text_features(encoder, given[name]["input_ids"], given[name]["attention_mask"])
        expected[name] = [torch.nn.functional.normalize(features, dim=-1) for features in (images, texts)]
        expected[name].append(encoder.logit_scale.exp() * expected[name][0] @ expected[name][1].T)
        if name == "siglip":
            expected[name][2] += encoder.logit_bias
    torch.save(given, tmp_path / "given.pt")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, (kind, *found) in torch.load(tmp_path / "found.pt").items():
        assert kind == {"clip": "CLIPModel", "siglip": "SiglipModel"}.get(name, "VisionTextDualEncoderModel")
        for value, wanted in zip(found, expected[name]):
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5, msg=name)


# First weights

WIDE = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}


def std(tensor: torch.Tensor) -> float:
    return float(tensor.detach().float().std())


def test_clips_text_tower_starts_as_in_the_authors_code():
    wide = {**CLIP, "projection_dim": 256, "text_config": WIDE, "vision_config": {**WIDE, "patch_size": 8}}
    model = build_encoder(backbone_config(wide, [64], {**TEXT, "vocab_size": 500, "max_length": 64}))
    text = model.text_model
    assert std(text.embeddings.token_embedding.weight) == pytest.approx(0.02, rel=0.03)
    assert std(text.embeddings.position_embedding.weight) == pytest.approx(0.01, rel=0.05)
    residual = 128**-0.5 * 8**-0.5  # two layers a block add to the stream, in 4 blocks
    for layer in text.encoder.layers:
        for name in ("q_proj", "k_proj", "v_proj"):
            assert std(getattr(layer.self_attn, name).weight) == pytest.approx(128**-0.5, rel=0.03)
            assert not getattr(layer.self_attn, name).bias.any()
        assert std(layer.self_attn.out_proj.weight) == pytest.approx(residual, rel=0.03)
        assert not layer.self_attn.out_proj.bias.any()
        assert std(layer.mlp.fc1.weight) == pytest.approx(256**-0.5, rel=0.03)
        assert std(layer.mlp.fc2.weight) == pytest.approx(residual, rel=0.03)
        # PyTorch's uniform biases, of standard deviation limit / sqrt(3), limit = 1 / sqrt(inputs)
        assert std(layer.mlp.fc1.bias) == pytest.approx(128**-0.5 / 3**0.5, rel=0.1)
        assert (layer.layer_norm1.weight == 1).all() and not layer.layer_norm1.bias.any()
    assert std(model.text_projection.weight) == pytest.approx(128**-0.5, rel=0.03)
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07), abs=1e-6)


def test_clips_image_tower_starts_as_in_the_authors_code():
    wide = {**CLIP, "projection_dim": 256, "text_config": WIDE, "vision_config": {**WIDE, "patch_size": 8}}
    model = build_encoder(backbone_config(wide, [64], TEXT))
    embeddings = model.vision_model.embeddings
    assert std(embeddings.class_embedding) == pytest.approx(128**-0.5, rel=0.2)
    assert std(embeddings.position_embedding.weight) == pytest.approx(128**-0.5, rel=0.05)
    inputs = 3 * 8 * 8
    assert std(embeddings.patch_embedding.weight) == pytest.approx(inputs**-0.5 / 3**0.5, rel=0.03)
    assert embeddings.patch_embedding.bias is None
    for layer in model.vision_model.encoder.layers:
        joint = torch.cat([getattr(layer.self_attn, f"{name}_proj").weight for name in "qkv"])
        limit = (6 / (3 * 128 + 128)) ** 0.5  # Xavier's, of one matrix (3W, W)
        assert std(joint) == pytest.approx(limit / 3**0.5, rel=0.03) and joint.abs().max() <= limit
        assert not layer.self_attn.q_proj.bias.any() and not layer.self_attn.out_proj.bias.any()
        assert std(layer.self_attn.out_proj.weight) == pytest.approx(128**-0.5 / 3**0.5, rel=0.03)
        assert std(layer.mlp.fc1.weight) == pytest.approx(128**-0.5 / 3**0.5, rel=0.03)
        assert std(layer.mlp.fc2.weight) == pytest.approx(512**-0.5 / 3**0.5, rel=0.03)
        assert layer.mlp.fc2.bias.any()
    assert std(model.visual_projection.weight) == pytest.approx(128**-0.5, rel=0.03)


def test_a_scale_that_the_recipe_gives_is_kept():
    config = backbone_config({**CLIP, "logit_scale_init_value": 1.5}, [32], TEXT)
    assert build_encoder(config).logit_scale.item() == 1.5


def test_siglip_starts_with_the_papers_scale_and_bias():
    model = build_encoder(backbone_config(SIGLIP, [32], TEXT))
    assert model.logit_scale.exp().item() == pytest.approx(10) and model.logit_bias.item() == -10


def test_towers_of_a_pair_keep_the_initialization_of_their_architecture():
    encoder = build_encoder(
        backbone_config(pair("timm/resnet18", {"model_type": "clip_text_model", **WIDE}), [32], TEXT)
    )
    original = timm.create_model("resnet18", num_classes=0).state_dict()
    for name, value in encoder.vision_model.timm_model.state_dict().items():
        if value.is_floating_point() and value.ndim > 1:
            assert std(value) == pytest.approx(std(original[name]), rel=0.1), name
        if name.endswith("bn2.weight"):
            assert value.abs().max() == 0  # the last normalization of every block
    assert std(encoder.text_model.embeddings.position_embedding.weight) == pytest.approx(0.01, rel=0.1)
    assert std(encoder.visual_projection.weight) == pytest.approx(512**-0.5, rel=0.05)
    assert std(encoder.text_projection.weight) == pytest.approx(128**-0.5, rel=0.05)


def test_nothing_is_drawn_where_weights_are_loaded(tmp_path):
    """On the meta device, where transformers builds a model that is loaded, and over weights that are there."""
    with torch.device("meta"):
        model = build_encoder(backbone_config(CLIP, [32], TEXT))
    assert all(parameter.is_meta for parameter in model.parameters())
    saved = build_encoder(backbone_config(CLIP, [32], TEXT))
    saved.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in saved.state_dict().items())


def test_image_towers_alone_are_built_as_ever():
    fields = {name: value for name, value in VISION["clip_vision_model"].items() if name != "model_type"}
    config = CONFIG_MAPPING["clip_vision_model"](**fields, image_size=32)
    torch.manual_seed(3)
    expected = AutoModel.from_config(config).state_dict()
    torch.manual_seed(3)
    found = build_encoder(config).state_dict()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_frozen_tower_computes_no_graph():
    encoder = build_encoder(backbone_config(CLIP, [32], TEXT))
    loaded = set(encoder.state_dict()) - {"vision_model.embeddings.position_embedding.weight"}
    still = freeze_tower(encoder, "vision", loaded)
    assert still == ["vision_model.embeddings.position_embedding.weight"]
    assert encoder.visual_projection.weight.requires_grad and encoder.text_projection.weight.requires_grad
    assert freeze_tower(encoder, "vision", set(encoder.state_dict())) == []
    assert not encoder.vision_model(torch.randn(1, 3, 32, 32)).pooler_output.requires_grad
    assert text_features(encoder, **tokens()).requires_grad
