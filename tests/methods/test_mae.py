"""MAE: the loss of transformers' own pre-training model, masks, what is published, and what is refused."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModel, ViTMAEConfig, ViTMAEForPreTraining, ViTModel

from hfcontrast.encoders import encode
from hfcontrast.encoders.vit import sincos_positions
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.mae import MAE, MAEConfig
from hfcontrast.nn.patches.cut import patchify
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

VIT_MAE = {"model_type": "vit_mae", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT_MAE |= {"intermediate_size": 64, "image_size": 32, "patch_size": 8}
SMALL = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}


def batch_of(images=4):
    batch = random_batch(MAE, images)
    return {name: batch[name] for name in ("pixel_values", "index")}


def reference(method, normalize):
    """transformers' model with the method's weights."""
    shape = {name: value for name, value in VIT_MAE.items() if name != "model_type"}
    config = ViTMAEConfig(
        **shape,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=64,
        mask_ratio=0.75,
        norm_pix_loss=normalize,
    )
    config.layer_norm_eps = 1e-6
    model = ViTMAEForPreTraining(config)
    model.vit.load_state_dict(method.encoder.state_dict())
    ours, theirs = method.decoder, model.decoder
    theirs.decoder_embed.load_state_dict(ours.embed.state_dict())
    theirs.decoder_layers.load_state_dict(ours.blocks.layers.state_dict())
    theirs.decoder_norm.load_state_dict(ours.blocks.norm.state_dict())
    theirs.decoder_pred.load_state_dict(ours.predict.state_dict())
    with torch.no_grad():
        theirs.mask_token.copy_(ours.mask_token)
        theirs.decoder_pos_embed[:, 1:] = sincos_positions(4, 4, 16)
    return model


def test_it_fulfils_the_contract():
    check_method(MAE, VIT_MAE, **SMALL)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_loss_is_that_of_transformers_model_for_the_same_mask(normalize):
    method = build(MAE, {**VIT_MAE, "layer_norm_eps": 1e-6}, normalize_pixels=normalize, **SMALL).eval()
    batch = batch_of()
    noise = method.random_uniform(batch["index"], 16, 1)
    expected = reference(method, normalize).eval()(batch["pixel_values"][:, 0], noise=noise)
    torch.testing.assert_close(method(**batch).loss, expected.loss, rtol=1e-5, atol=1e-6)
    prediction, hidden, seen = method.predict(batch["pixel_values"][:, 0], batch["index"])
    assert torch.equal(expected.mask.bool().nonzero()[:, 1].view(4, 12), hidden.sort(dim=1).values)
    places = hidden.unsqueeze(-1).expand_as(prediction)
    torch.testing.assert_close(prediction, expected.logits.gather(1, places), rtol=1e-4, atol=1e-5)


def test_masks_change_with_epoch_seed_and_sample_and_with_nothing_else():
    method = build(MAE, VIT_MAE, **SMALL)

    def hidden(step, seed=0, index=(0, 1, 2, 3)):
        start_step(method, Progress(step, 100, 10, seed))
        return method.predict(torch.zeros(len(index), 3, 32, 32), torch.tensor(index))[1]

    first = hidden(3)
    assert first.shape == (4, 12)  # three quarters of 16 patches
    assert all(len(row.unique()) == 12 for row in first)
    assert torch.equal(first, hidden(9)), "the same epoch"
    assert torch.equal(first[2:], hidden(3, index=(2, 3))), "another batch"
    assert not torch.equal(first, hidden(10)) and not torch.equal(first, hidden(3, seed=1))
    assert len({tuple(row.tolist()) for row in first.sort(dim=1).values}) == 4


def test_hidden_pixels_do_not_reach_the_prediction():
    method = build(MAE, VIT_MAE, **SMALL).eval()
    pixels = batch_of()["pixel_values"][:, 0]
    index = torch.arange(4)
    prediction, hidden, _ = method.predict(pixels, index)
    patches = torch.zeros(4, 16).scatter(1, hidden, 1.0)
    noise = torch.randn_like(pixels) * patches.view(4, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert torch.equal(method.predict(pixels + noise, index)[0], prediction)


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_what_is_published_is_a_vit_with_the_same_features(pooling, tmp_path):
    method = build(MAE, VIT_MAE, pooling=pooling, **SMALL).eval()
    pixels = batch_of()["pixel_values"][:, 0]
    exported = method.export_encoder()
    exported.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert type(loaded) is ViTModel
    with torch.no_grad():
        tokens = loaded(pixels).last_hidden_state
        expected = tokens[:, 0] if pooling == "class" else tokens[:, 1:].mean(dim=1)
        torch.testing.assert_close(encode(exported.eval(), pixels), expected)
        torch.testing.assert_close(encode(method.encoder, pixels), expected, rtol=1e-4, atol=1e-5)
    assert tokens.shape[1] == 17, "all patches are visible"
    assert {id(p) for p in exported.parameters()} <= {id(p) for p in method.parameters()}


def test_a_vit_serves_too_with_fixed_positions():
    method = build(MAE, {**VIT_MAE, "model_type": "vit"}, **SMALL)
    assert not method.encoder.embeddings.position_embeddings.requires_grad
    assert method(**batch_of()).loss.isfinite()
    assert method.export_encoder() is method.encoder


def test_the_images_show_what_was_hidden_and_keep_what_was_seen():
    method = build(MAE, VIT_MAE, **SMALL).eval()
    batch = batch_of()
    with torch.no_grad():
        columns = method.visualize(**batch)
        _, hidden, seen = method.predict(batch["pixel_values"][:, 0], batch["index"])
    assert list(columns) == ["masked", "reconstruction", "original"]
    masked, reconstruction, original = (patchify(picture, 8) for picture in columns.values())
    rows = torch.arange(4).unsqueeze(1)
    assert (masked[rows, hidden] == 0).all() and torch.equal(masked[rows, seen], original[rows, seen])
    assert torch.equal(reconstruction[rows, seen], original[rows, seen])
    assert not torch.isclose(reconstruction[rows, hidden], original[rows, hidden]).all()
    torch.testing.assert_close(  # pixels come back with their patch's own mean and scale, whatever is predicted
        reconstruction[rows, hidden].mean(-1), original[rows, hidden].mean(-1), atol=1.0, rtol=0
    )


def test_wrong_settings_are_refused():
    with pytest.raises(RecipeError, match="MAE runs the layers.*'dinov2'.*vit_mae or vit"):
        build(MAE, TINY_BACKBONE, **SMALL)
    for wrong in ({"mask_ratio": 1.0}, {"mask_ratio": 0}, {"decoder_width": 18}, {"decoder_heads": 3}):
        with pytest.raises(StrictDataclassClassValidationError, match=next(iter(wrong))):
            MAEConfig(**{**SMALL, **wrong})
