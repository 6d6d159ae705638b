"""SimMIM: the loss of transformers' own models, masks of squares, what is published, and what is refused."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModel, SwinConfig, SwinForMaskedImageModeling, ViTConfig, ViTForMaskedImageModeling

from hfcontrast.encoders import encode
from hfcontrast.encoders.weights import load_weights
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.simmim import SimMIM, SimMIMConfig
from hfcontrast.testing import TINY_BACKBONE, build, check_method, random_batch

VIT = {"model_type": "vit", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT |= {"intermediate_size": 64, "image_size": 32, "patch_size": 8}
SWIN = {"model_type": "swin", "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2}
SWIN |= {"image_size": 32, "patch_size": 4, "drop_path_rate": 0.0}
BEIT = {**VIT, "model_type": "beit", "use_shared_relative_position_bias": True, "use_mean_pooling": False}
RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
SMALL = {"mask_patch_size": 8}


def batch_of(images=4):
    batch = random_batch(SimMIM, images)
    return {name: batch[name] for name in ("pixel_values", "index")}


@pytest.mark.parametrize("backbone", [VIT, SWIN], ids=["vit", "swin"])
def test_it_fulfils_the_contract(backbone):
    check_method(SimMIM, backbone, learning_steps=10, **SMALL)


@pytest.mark.parametrize("backbone", [VIT, SWIN, BEIT, TINY_BACKBONE], ids=lambda backbone: backbone["model_type"])
def test_every_encoder_that_takes_masks_serves(backbone):
    method = build(SimMIM, backbone, **SMALL)
    method(**batch_of()).loss.backward()
    assert method.encoder.embeddings.mask_token.grad.abs().sum() > 0
    assert 0 < method.encoder.embeddings.mask_token.std() < 0.03, "it starts as in the authors' code"


@pytest.mark.parametrize("backbone, name", [(VIT, "vit"), (SWIN, "swin")])
def test_the_loss_is_that_of_transformers_model_for_the_same_mask(backbone, name):
    method = build(SimMIM, backbone, **SMALL).eval()
    batch = batch_of()
    settings = {key: value for key, value in backbone.items() if key != "model_type"}
    config_class, model_class = {
        "vit": (ViTConfig, ViTForMaskedImageModeling),
        "swin": (SwinConfig, SwinForMaskedImageModeling),
    }[name]
    model = model_class(config_class(**settings, encoder_stride=method.stride)).eval()
    getattr(model, name).load_state_dict(method.encoder.state_dict())
    model.decoder.load_state_dict(method.decoder.state_dict())
    patches = method.masks(batch["index"], 4, (32, 32))
    patches = patches.repeat_interleave(8 // method.patch_size, 1).repeat_interleave(8 // method.patch_size, 2)
    expected = model(batch["pixel_values"][:, 0], bool_masked_pos=patches.flatten(1))
    torch.testing.assert_close(method(**batch).loss, expected.loss, rtol=1e-5, atol=1e-6)
    prediction, _ = method.predict(batch["pixel_values"][:, 0], batch["index"])
    torch.testing.assert_close(prediction, expected.reconstruction, rtol=1e-4, atol=1e-5)


def test_masks_are_whole_squares_of_one_number_and_change_with_epoch_and_sample():
    method = build(SimMIM, VIT, **SMALL)

    def masks(step, index=(0, 1, 2, 3)):
        start_step(method, Progress(step, 100, 10))
        return method.masks(torch.tensor(index), len(index), (32, 32))

    first = masks(3)
    assert first.shape == (4, 4, 4) and (first.sum(dim=(1, 2)) == 10).all()  # 60 % of 16, rounded up
    assert torch.equal(first, masks(9)) and torch.equal(first[2:], masks(3, (2, 3)))
    assert not torch.equal(first, masks(10)) and len(first.flatten(1).unique(dim=0)) == 4


@pytest.mark.parametrize("backbone", [VIT, SWIN, BEIT], ids=["vit", "swin", "beit"])
def test_what_is_published_is_the_plain_encoder(backbone, tmp_path):
    method = build(SimMIM, backbone, **SMALL).eval()
    exported, pixels = method.export_encoder(), batch_of()["pixel_values"][:, 0]
    exported.save_pretrained(tmp_path)
    loaded, report = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["unexpected_keys"] and all("pooler" in key for key in report["missing_keys"])
    assert method.encoder.embeddings.mask_token is not None, "the method keeps its own"
    if hasattr(loaded, "pooler") and exported.pooler is None:
        loaded.pooler = None
    with torch.no_grad():
        torch.testing.assert_close(encode(loaded.eval(), pixels), encode(exported, pixels))


def test_the_images():
    method = build(SimMIM, VIT, **SMALL).eval()
    batch = batch_of()
    with torch.no_grad():
        columns = method.visualize(**batch)
        prediction, hidden = method.predict(batch["pixel_values"][:, 0], batch["index"])
    hidden = hidden.expand_as(prediction)
    assert (columns["masked"][hidden] == 0).all()
    assert torch.equal(columns["reconstruction"][hidden], prediction[hidden])
    assert torch.equal(columns["reconstruction"][~hidden], columns["original"][~hidden])


def test_wrong_settings_are_refused():
    with pytest.raises(RecipeError, match="'resnet' does not support"):
        build(SimMIM, RESNET, **SMALL)
    with pytest.raises(RecipeError, match="views of 32 px cannot be masked in squares of 12 px"):
        build(SimMIM, VIT, mask_patch_size=12)(**batch_of())
    with pytest.raises(StrictDataclassClassValidationError, match="mask_ratio"):
        SimMIMConfig(mask_ratio=0.0)


def test_weights_that_were_trained_without_masks_need_no_mask_token(tmp_path):
    plain = build(SimMIM, VIT, **SMALL).export_encoder()
    plain.save_pretrained(tmp_path)
    method = build(SimMIM, VIT, **SMALL)
    torch.nn.init.zeros_(method.encoder.layernorm.weight)
    loaded = load_weights(method.encoder, {"pretrained": str(tmp_path)})
    assert "embeddings.mask_token" not in loaded.names and "at random: embeddings.mask_token" in loaded.sentence
    assert torch.equal(method.encoder.layernorm.weight, plain.layernorm.weight)
