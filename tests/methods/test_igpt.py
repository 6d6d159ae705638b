"""iGPT: the likelihood of transformers' own model, colors, the features' block, what is published, and what is refused."""

import json
import math

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, ImageGPTConfig, ImageGPTModel

from hfcontrast.encoders import encode
from hfcontrast.encoders.features import feature_expression
from hfcontrast.encoders.weights import load_weights
from hfcontrast.errors import RecipeError
from hfcontrast.evaluation.inputs import image_transform
from hfcontrast.methods.igpt import IGPT, IGPTConfig
from hfcontrast.publishing.processor import build_processor
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

GPT = {"model_type": "imagegpt", "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 64}
GPT |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SMALL = {"num_clusters": 6}


def pixels_of(images=3):
    return random_batch(IGPT, images, 8)["pixel_values"]


def with_random_head(method):
    torch.nn.init.normal_(method.head.linear.weight)
    return method.eval()


def as_pixels(method, tokens):
    """Images of these tokens' colors in [-1, 1], as ``encode`` takes them of an ImageGPT."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (method.config.image_mean, method.config.image_std))
    return (method.colors(tokens, (8, 8)) * std + mean) * 2 - 1


def test_it_fulfils_the_contract():
    check_method(IGPT, GPT, images=4, size=8, learning_steps=10, **SMALL)


def test_the_loss_is_the_likelihood_by_transformers_model():
    method = with_random_head(build(IGPT, GPT, **SMALL))
    tokens = method.tokens(pixels_of()[:, 0])
    model = method.generator()
    first = model(torch.tensor([[6]]), position_ids=torch.tensor([[63]])).logits[0]  # from the start token alone
    logits = [torch.cat([first, model(row[None, :-1]).logits[0]]) for row in tokens]
    by_hand = [-logits[n].log_softmax(-1)[range(64), tokens[n]].mean() for n in range(3)]
    torch.testing.assert_close(method(pixel_values=pixels_of()).loss, sum(by_hand) / 3)


def test_it_starts_at_the_entropy_of_its_colors():
    assert build(IGPT, GPT, **SMALL)(pixel_values=pixels_of()).loss.item() == pytest.approx(math.log(6), rel=1e-5)


def test_no_pixel_is_predicted_from_itself_or_later_ones():
    method = with_random_head(build(IGPT, GPT, **SMALL))
    tokens = method.tokens(pixels_of()[:, 0])
    changed = tokens.clone()
    changed[:, 30:] = (changed[:, 30:] + 1) % 6
    first, second = (method.logits(t) for t in (tokens, changed))
    torch.testing.assert_close(first[:, :31], second[:, :31])
    assert not torch.allclose(first[:, 31:], second[:, 31:])


def test_what_is_published_sees_in_an_image_what_the_training_saw(tmp_path):
    """The tokens, each at its position, that the last block's input was computed from in a training step."""
    method = with_random_head(build(IGPT, GPT, feature_layer=2, **SMALL))
    tokens = method.tokens(pixels_of()[:, 0])
    seen = []
    hook = method.encoder.h[2].ln_1.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    method(pixel_values=pixels_of())
    hook.remove()
    start, trained = seen
    assert start.shape[1] == 1 and trained.shape[1] == 63
    encoder = method.export_encoder().eval()
    encoder.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        outputs = loaded(input_ids=tokens)
        torch.testing.assert_close(outputs.last_hidden_state[:, :-1], trained)
        (features,) = [eval(feature_expression(loaded))]  # what the card tells its reader
        torch.testing.assert_close(features, trained.mean(dim=1))
        torch.testing.assert_close(encode(loaded, as_pixels(method, tokens)), features)


def test_released_weights_keep_their_positions_and_are_evaluated_after_their_start_token(tmp_path):
    """A model that was trained on the start token and all pixels but the last."""
    torch.manual_seed(1)
    colors = torch.linspace(-1, 1, 6).tolist()
    config = ImageGPTConfig(**GPT | {"vocab_size": 7}, clusters=[[value] * 3 for value in colors])
    released = ImageGPTModel(config).eval()
    released.save_pretrained(tmp_path)
    method = build(IGPT, dict(config.to_dict()), **SMALL).eval()
    load_weights(method.encoder, {"pretrained": str(tmp_path)})
    tokens = method.tokens(pixels_of()[:, 0])
    sequence = torch.cat([torch.full((3, 1), 6), tokens[:, :-1]], dim=1)
    with torch.no_grad():
        expected = released(sequence).last_hidden_state
        torch.testing.assert_close(encode(released, as_pixels(method, tokens)), expected.mean(dim=1))
        first = method.encoder(sequence[:, :1], position_ids=torch.tensor([[63]])).last_hidden_state
        torch.testing.assert_close(first, expected[:, :1])
        inside = released.wte(sequence[:, 1:]) + released.wpe.weight[1:]  # what the blocks see of pixels and positions
        torch.testing.assert_close(method.encoder.wte(tokens[:, :-1]) + method.encoder.wpe.weight[:63], inside)


def test_methods_saved_before_are_evaluated_on_the_sequence_that_they_were_trained_on(tmp_path):
    """Their configuration does not say that there is no start token, and so there was one."""
    method = build(IGPT, GPT, feature_layer=2, **SMALL).eval()
    method.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    saved = json.loads(file.read_text())
    assert saved["backbone_config"].pop("start_token") is False
    file.write_text(json.dumps(saved))
    encoder = IGPT.from_pretrained(tmp_path).eval().export_encoder()
    tokens = method.tokens(pixels_of()[:, 0])
    sequence = torch.cat([torch.full((3, 1), 6), tokens[:, :-1]], dim=1)
    with torch.no_grad():
        expected = encoder(sequence).last_hidden_state.mean(dim=1)
        torch.testing.assert_close(encode(encoder, as_pixels(method, tokens)), expected)
        assert not torch.allclose(encode(method.export_encoder(), as_pixels(method, tokens)), expected)


def test_colors_are_clusters_of_the_pixels():
    images = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]).repeat(4, 1)[:, :, None, None]
    found = IGPT.compute_data_statistics((images + 0.01 * torch.randn(12, 3, 4, 4)).clamp(0, 1), {"num_clusters": 3})[
        "clusters"
    ]
    for color in ((-1, -1, -1), (1, 1, 1), (1, -1, -1)):
        assert min((torch.tensor(c) - torch.tensor(color)).abs().max() for c in found) < 0.05
    few = IGPT.compute_data_statistics(images.expand(-1, -1, 4, 4), {"num_clusters": 100})["clusters"]
    assert sorted(few) == [[-1, -1, -1], [1, -1, -1], [1, 1, 1]], "no more clusters than colors"


def test_the_features_are_the_normalized_input_of_the_middle_block(tmp_path):
    method = build(IGPT, GPT, feature_layer=2, **SMALL).eval()
    tokens = method.tokens(pixels_of()[:, 0])
    with torch.no_grad():
        hidden = method.encoder(tokens, output_hidden_states=True).hidden_states[2]
        expected = method.encoder.h[2].ln_1(hidden)[:, :-1].mean(dim=1)
        method.export_encoder().save_pretrained(tmp_path)
        loaded = AutoModel.from_pretrained(tmp_path).eval()
        assert type(loaded) is ImageGPTModel and len(loaded.h) == 2
        torch.testing.assert_close(loaded(tokens).last_hidden_state[:, :-1].mean(dim=1), expected)
        torch.testing.assert_close(encode(loaded, as_pixels(method, tokens)), expected)


def test_the_published_processor_makes_the_tokens_that_are_evaluated(tmp_path):
    method = build(IGPT, GPT, **SMALL).eval()
    encoder = method.export_encoder()
    encoder.save_pretrained(tmp_path)
    build_processor(encoder, 8, 1.0, (0.5,) * 3, (0.5,) * 3).save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    picture = Image.effect_noise((20, 13), 90).convert("RGB")
    with torch.no_grad():
        outputs = AutoModel.from_pretrained(tmp_path).eval()(**processor(picture, return_tensors="pt"))
        expected = encode(encoder, image_transform(processor)([picture]))
    torch.testing.assert_close(outputs.last_hidden_state[:, :-1].mean(dim=1), expected)


def test_the_images_keep_the_upper_half():
    method = with_random_head(build(IGPT, GPT, **SMALL))
    with torch.no_grad():
        columns = method.visualize(pixels_of())
    assert columns["sampled"].shape == (3, 3, 3, 8, 8)
    upper = columns["original"][:, None, :, :4].expand(-1, 3, -1, -1, -1)
    assert torch.equal(columns["sampled"][:, :, :, :4], upper)
    assert not torch.equal(columns["sampled"][:, 0, :, 4:], columns["sampled"][:, 1, :, 4:])
    assert (columns["given"][:, :, 4:] == 0).all()


def test_pretrained_colors_go_before_measured_ones():
    colors = [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]
    config = IGPTConfig(backbone_config={**GPT, "vocab_size": 3, "clusters": colors}, clusters=[[0.0] * 3] * 5)
    assert config.clusters == colors and config.backbone_config.vocab_size == 3


def test_wrong_settings_are_refused():
    with pytest.raises(RecipeError, match="backbone is 'dinov2': use model_type: imagegpt"):
        build(IGPT, TINY_BACKBONE, **SMALL)
    with pytest.raises(ValueError, match="feature_layer is 3, expected 1 to 2"):
        build(IGPT, GPT, feature_layer=3, **SMALL)
    with pytest.raises(ValueError, match="they are filled in by a training"):
        IGPT(IGPTConfig(backbone_config=dict(GPT)))
