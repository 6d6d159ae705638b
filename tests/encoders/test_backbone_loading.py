"""Released weights: whole models with two towers, towers from elsewhere, and what does not match."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.model_config import backbone_config
from hfcontrast.encoders.two_towers import text_features
from hfcontrast.encoders.weights import load_weights
from hfcontrast.errors import RecipeError

TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
PATCHES = {**TOWER, "patch_size": 8}
TEXT = {"vocab_size": 50, "max_length": 12, "bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 49}
BERT_TEXT = {**TEXT, "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
CLIP = {"model_type": "clip", "projection_dim": 10, "text_config": TOWER, "vision_config": PATCHES}
SIGLIP = {"model_type": "siglip", "text_config": TOWER, "vision_config": PATCHES}
BERT = {"model_type": "bert", "vocab_size": 50, "max_position_embeddings": 12, **TOWER}
PAIR = {"model_type": "vision-text-dual-encoder", "projection_dim": 10}
IDS = torch.tensor([[48, 5, 6, 49], [48, 8, 49, 49]])
NEW = {"visual_projection.weight", "text_projection.weight", "logit_scale"}


@pytest.fixture
def save(tmp_path):
    """Saves a model of random weights as a release would be; returns the model and its folder."""

    def build(backbone, name="release", text=None):
        config = backbone_config(backbone, [32], text)
        # Of a BERT alone, build_encoder leaves the pooler out.
        model = (AutoModel.from_config if backbone is BERT else build_encoder)(config).eval()
        with torch.no_grad():  # weights that no other draw gives
            for parameter in model.parameters():
                parameter.add_(0.01)
        model.save_pretrained(tmp_path / name)
        return model, str(tmp_path / name)

    return build


def equal(encoder, source, names=None) -> bool:
    """Whether tensors of two models are the same."""
    state, other = encoder.state_dict(), source.state_dict()
    return all(torch.equal(state[name], other[name]) for name in (names or other))


@pytest.mark.parametrize(
    "released", [CLIP, SIGLIP, {**PAIR, "vision": "timm/resnet18", "text": BERT}], ids=lambda b: b["model_type"]
)
def test_a_model_with_two_towers_is_loaded_whole(released, save):
    source, folder = save(released, text=TEXT if "vision" not in released else BERT_TEXT)
    backbone = {"pretrained": folder}
    encoder = build_encoder(backbone_config(backbone, [32, 16], TEXT))
    assert type(encoder) is type(source) and not equal(encoder, source)
    loaded = load_weights(encoder, backbone)
    total = len(source.state_dict())
    assert loaded.sentence == f"{total} of {total} encoder tensors loaded from {folder}"
    assert equal(encoder, source) and loaded.names == source.state_dict().keys()
    assert loaded.has_weights("vision") and loaded.has_weights("text")


def test_of_two_towers_a_method_for_images_gets_the_image_tower(save):
    for released, text in (
        (CLIP, TEXT),
        (SIGLIP, TEXT),
        ({**PAIR, "vision": {"model_type": "dinov2", **PATCHES}, "text": BERT}, BERT_TEXT),
    ):
        source, folder = save(released, released["model_type"], text)
        encoder = build_encoder(backbone_config({"pretrained": folder}, [32])).eval()
        load_weights(encoder, {"pretrained": folder})
        pixels = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(encode(encoder, pixels), source.vision_model(pixels).pooler_output)


def test_a_pair_of_timms_image_tower_takes_other_sizes(save):
    vision = {"model_type": "timm_wrapper", "architecture": "vit_tiny_patch16_224", "model_args": {"depth": 1}}
    source, folder = save({**PAIR, "vision": vision, "text": BERT}, text=BERT_TEXT)
    encoder = build_encoder(backbone_config({"pretrained": folder}, [48], BERT_TEXT)).eval()
    load_weights(encoder, {"pretrained": folder})
    assert encode(encoder, torch.randn(2, 3, 48, 48)).shape == (2, 10)
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encode(encoder, pixels), encode(source, pixels))


def test_each_tower_of_a_pair_from_elsewhere(save):
    """The image tower of a CLIP, and a BERT."""
    clip, clip_folder = save(CLIP, "clip", TEXT)
    bert, bert_folder = save(BERT, "bert")
    backbone = {**PAIR, "vision": {"pretrained": clip_folder}, "text": {"pretrained": bert_folder}}
    encoder = build_encoder(backbone_config(backbone, [32], BERT_TEXT)).eval()
    loaded = load_weights(encoder, backbone)
    ours, theirs = len(clip.vision_model.state_dict()), len(bert.state_dict())
    assert loaded.sentence == (
        f"{ours} of {ours} vision tower tensors loaded from {clip_folder}; "
        f"{theirs} of {theirs} text tower tensors loaded from {bert_folder}"
    )
    assert equal(encoder.vision_model, clip.vision_model) and equal(encoder.text_model, bert)
    assert encoder.state_dict().keys() - loaded.names == NEW
    pixels = torch.randn(2, 3, 32, 32)
    pooled = clip.vision_model(pixels).pooler_output
    torch.testing.assert_close(encode(encoder, pixels), encoder.visual_projection(pooled))


def test_one_tower_with_weights_and_one_without(save):
    bert, folder = save(BERT)
    backbone = {**PAIR, "vision": "timm/resnet18", "text": {"pretrained": folder}}
    encoder = build_encoder(backbone_config(backbone, [32], BERT_TEXT))
    loaded = load_weights(encoder, backbone)
    assert equal(encoder.text_model, bert) and loaded.sources == {"text": folder}
    assert loaded.has_weights("text") and not loaded.has_weights("vision")
    # The text tower of a CLIP in a new pair.
    clip, folder = save(CLIP, "clip", TEXT)
    backbone = {**PAIR, "vision": "timm/resnet18", "text": {"pretrained": folder}}
    encoder = build_encoder(backbone_config(backbone, [32], TEXT)).eval()
    load_weights(encoder, backbone)
    pooled = clip.text_model(IDS).pooler_output
    torch.testing.assert_close(text_features(encoder, IDS), encoder.text_projection(pooled))


def test_pairs_without_weights_load_nothing():
    backbone = {**PAIR, "vision": "timm/resnet18", "text": BERT}
    assert load_weights(build_encoder(backbone_config(backbone, [32], BERT_TEXT)), backbone) is None


def test_another_vocabulary_stays_random_when_it_may(save):
    source, folder = save(CLIP, text=TEXT)
    larger = {**TEXT, "vocab_size": 70, "bos_token_id": 68, "eos_token_id": 69, "pad_token_id": 69}
    config = backbone_config({"pretrained": folder}, [32], larger)
    assert (config.text_config.vocab_size, config.text_config.eos_token_id) == (70, 69)
    encoder = build_encoder(config).eval()
    embedding = "text_model.embeddings.token_embedding.weight"
    with pytest.raises(RecipeError) as error:
        load_weights(encoder, {"pretrained": folder})
    total = len(source.state_dict())
    assert (
        f"has 1 of the encoder's {total} tensors in another shape, among them '{embedding}' ((50, 16) there, (70, 16) here)"
        in str(error.value)
    )
    assert "when min_matched allows it" in str(error.value)
    before = encoder.state_dict()[embedding].clone()
    loaded = load_weights(encoder, {"pretrained": folder, "min_matched": (total - 1) / total})
    assert loaded.sentence == (
        f"{total - 1} of {total} encoder tensors loaded from {folder}; at random: {embedding} ((50, 16) there, (70, 16) here)"
    )
    assert torch.equal(encoder.state_dict()[embedding], before)
    assert equal(encoder, source, loaded.names) and loaded.names == source.state_dict().keys() - {embedding}
    with pytest.raises(RecipeError, match="has 1 of .* in another shape"):
        load_weights(encoder, {"pretrained": folder, "min_matched": 0.999})


def test_the_tokenizer_that_belongs_to_the_weights_changes_nothing(save):
    _, folder = save(CLIP, text=TEXT)
    as_saved = AutoConfig.from_pretrained(folder).text_config
    assert backbone_config({"pretrained": folder}, [32], TEXT).text_config == as_saved


def test_clips_first_checkpoints_are_read_at_their_highest_id(save):
    """They say that the end token is 2; transformers takes that as a mark."""
    source, folder = save(CLIP, text=TEXT)
    path = Path(folder, "config.json")
    settings = json.loads(path.read_text())
    settings["text_config"]["eos_token_id"] = 2
    path.write_text(json.dumps(settings))
    config = backbone_config({"pretrained": folder}, [32], TEXT)
    assert config.text_config.eos_token_id == 2  # the last id is the end: all is well
    encoder = build_encoder(config).eval()
    load_weights(encoder, {"pretrained": folder})
    torch.testing.assert_close(text_features(encoder, IDS), text_features(source, IDS))
    other = {**TEXT, "eos_token_id": 47}  # a token after the end would be taken for it
    assert backbone_config({"pretrained": folder}, [32], other).text_config.eos_token_id == 47


def test_tensors_that_the_files_lack_are_not_counted(save, tmp_path):
    """transformers fills them up with random numbers; a BERT without a pooler is common."""
    bert, folder = save(BERT)
    kept = {name: value for name, value in bert.state_dict().items() if not name.startswith("pooler")}
    bert.save_pretrained(folder, state_dict=kept)
    total = len(bert.state_dict())
    backbone = {**PAIR, "vision": "timm/resnet18", "text": {"pretrained": folder}}
    encoder = build_encoder(backbone_config(backbone, [32], BERT_TEXT))
    with pytest.raises(
        RecipeError,
        match=rf"text.pretrained: .* lacks 2 of the text tower's {total} tensors, among them 'pooler",
    ):
        load_weights(encoder, backbone)
    loaded = load_weights(encoder, {**backbone, "min_matched": 0.8})
    assert loaded.sentence.endswith("; at random: pooler.dense.weight, pooler.dense.bias")
    assert not any("pooler" in name for name in loaded.names)


def test_many_missing_tensors_are_named_in_part(save):
    _, folder = save({"model_type": "vit", **PATCHES})
    deeper = build_encoder(backbone_config({"model_type": "vit", **PATCHES, "num_hidden_layers": 2}, [32]))
    sentence = load_weights(deeper, {"pretrained": folder, "min_matched": 0.5}).sentence
    assert sentence.endswith(" and 13 more") and sentence.count("layers.1.") == 3


def test_what_cannot_be_loaded_is_explained(save):
    _, folder = save({"model_type": "vit", **PATCHES})
    with pytest.raises(
        RecipeError, match=r"\(vit\) has no image and text tower: take one that has, or .*vision-text-dual-encoder"
    ):
        backbone_config({"pretrained": folder}, [32], TEXT)
    _, folder = save(CLIP, "clip", TEXT)
    with pytest.raises(RecipeError, match=r"text.max_length is 13, but .* takes at most 12 tokens"):
        backbone_config({"pretrained": folder}, [32], {**TEXT, "max_length": 13})
    pair = {**PAIR, "vision": {"model_type": "vit", **PATCHES}, "text": {"pretrained": "no/where"}}
    with pytest.raises(RecipeError, match="text.pretrained: 'no/where' is neither"):
        backbone_config(pair, [32], TEXT)


@pytest.mark.parametrize(
    "released", [{"model_type": "vit", **PATCHES}, "timm/resnet18", CLIP], ids=["vit", "timm", "clip"]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_weights_in_half_precision_are_trained_in_full(released, dtype, tmp_path):
    text = TEXT if released is CLIP else None
    source = build_encoder(backbone_config(released, [32], text)).to(dtype)
    source.save_pretrained(tmp_path)
    backbone = {"pretrained": str(tmp_path)}
    if text:
        backbone = {**PAIR, "vision": backbone, "text": backbone}
    encoder = build_encoder(backbone_config(backbone, [32], text))
    load_weights(encoder, backbone)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    part = (source.vision_model, encoder.vision_model) if text else (source, encoder)
    theirs, ours = (next(module.parameters()) for module in part)
    assert torch.equal(theirs.float(), ours)
