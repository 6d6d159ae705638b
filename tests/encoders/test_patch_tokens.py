"""A ViT run in parts is the ViT; blocks and shared modules."""

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModel

from hfcontrast.encoders import build_encoder, encode
from hfcontrast.encoders.patch_tokens import (
    choose,
    embed_patches,
    run_layers,
    token_grid,
)
from hfcontrast.encoders.vit_mae import vit_of_mae
from hfcontrast.encoders.weight_sharing import share
from hfcontrast.nn.transformer import TransformerBlocks

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SIZES |= {"image_size": 16, "patch_size": 4}


def encoder_of(model_type, **changes):
    torch.manual_seed(0)
    return build_encoder(CONFIG_MAPPING[model_type](**{**SIZES, **changes})).eval()


@pytest.mark.parametrize("size", [16, 24])
@pytest.mark.parametrize("model_type", ["vit", "vit_mae", "ijepa"])
def test_all_tokens_through_the_layers_are_the_models_own_output(model_type, size):
    encoder, pixels = encoder_of(model_type), torch.randn(2, 3, size, size)
    tokens, first = embed_patches(encoder, pixels)
    assert tokens.shape == (2, (size // 4) ** 2, 16) and token_grid(encoder, pixels) == (size // 4, size // 4)
    assert first.shape[1] == (0 if model_type == "ijepa" else 1)
    found = run_layers(encoder, torch.cat([first, tokens], dim=1))
    noise = {"noise": torch.arange(tokens.shape[1]).expand(2, -1)} if model_type == "vit_mae" else {}
    expected = encoder(pixels, interpolate_pos_encoding=size != 16, **noise).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_mask_hides_tokens_from_each_other(attention):
    encoder = encoder_of("ijepa")
    encoder.set_attn_implementation(attention)
    tokens, _ = embed_patches(encoder, torch.randn(2, 3, 16, 16))
    visible = torch.tensor([True] * 10 + [False] * 6).view(1, 1, 1, 16).expand(2, -1, -1, -1)
    found = run_layers(encoder, tokens, visible)[:, :10]
    torch.testing.assert_close(found, run_layers(encoder, tokens[:, :10]), rtol=1e-4, atol=1e-5)


def test_choosing_tokens():
    tokens = torch.arange(24.0).view(2, 4, 3)
    found = choose(tokens, torch.tensor([[3, 0], [1, 1]]))
    assert torch.equal(found, torch.stack([tokens[0, [3, 0]], tokens[1, [1, 1]]]))


def test_blocks_keep_the_shape_and_refuse_heads_that_do_not_fit():
    blocks = TransformerBlocks(16, 2, 4)
    tokens = torch.randn(3, 5, 16)
    assert blocks(tokens).shape == tokens.shape
    mask = torch.ones(1, 1, 1, 5, dtype=torch.bool)
    mask[..., 3:] = False
    torch.testing.assert_close(blocks(tokens, mask)[:, :3], blocks(tokens[:, :3]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="3 attention heads do not divide a width of 16"):
        TransformerBlocks(16, 1, 3)


def test_a_shared_module_can_be_changed_without_the_original():
    encoder = encoder_of("vit")
    twin = share(encoder)
    twin.embeddings = share(encoder.embeddings)
    twin.embeddings.mask_token = torch.nn.Parameter(torch.zeros(1))
    assert encoder.embeddings.mask_token is None and type(twin) is type(encoder)
    assert twin.layers is encoder.layers
    assert twin.embeddings.cls_token is encoder.embeddings.cls_token


def test_a_vit_mae_hides_nothing_unless_a_method_does(tmp_path):
    encoder, pixels = encoder_of("vit_mae"), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        features = encode(encoder, pixels)
        assert torch.equal(features, encode(encoder, pixels)), "no random order"
        torch.testing.assert_close(encode(vit_of_mae(encoder), pixels), features, rtol=1e-4, atol=1e-5)
    encoder.config.feature_pooling = "mean"
    encoder.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        tokens = vit_of_mae(encoder)(pixels).last_hidden_state[:, 1:]
        torch.testing.assert_close(encode(loaded, pixels), tokens.mean(dim=1), rtol=1e-4, atol=1e-5)
