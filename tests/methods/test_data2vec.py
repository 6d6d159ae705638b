"""data2vec: its targets and its loss from the paper's formulas, what the mask hides, its teacher, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.data2vec import Data2Vec, Data2VecConfig
from hfcontrast.testing import build, check_method, random_batch

SMALL = {"average_top_k_layers": 2, "min_block": 4}
VIT = {
    "model_type": "data2vec-vision",
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 4,
    "drop_path_rate": 0.0,
    "initializer_range": 0.2,  # so that tokens of a narrow model move each other
    "layer_scale_init_value": 0.5,
}


def apart(method):
    """The method with a teacher that differs from its student, and with positions that count."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in [*method.teacher.parameters(), method.encoder.encoder.relative_position_bias.relative_position_bias_table]:  # fmt: skip
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return method


def normalized(values):
    mean, variance = values.mean(-1, keepdim=True), values.var(-1, unbiased=False, keepdim=True)
    return (values - mean) / (variance + 1e-5).sqrt()


def targets_by_hand(encoder, crops, top, inner):
    """The blocks written out: their outputs, or those of their MLPs, of the patches."""
    tokens, _ = encoder.embeddings(crops)
    bias = encoder.encoder.relative_position_bias((8, 8))
    found = []
    for layer in encoder.encoder.layer:
        attention = layer.attention(layer.layernorm_before(tokens), relative_position_bias=bias)[0]
        tokens = tokens + layer.lambda_1 * attention
        mlp = layer.lambda_2 * layer.output(layer.intermediate(layer.layernorm_after(tokens)))
        tokens = tokens + mlp
        found.append((mlp if inner else tokens)[:, 1:])
    return normalized(sum(normalized(values) for values in found[-top:]) / top)


@pytest.mark.parametrize("features", ["block", "ffn"])
@pytest.mark.parametrize("top", [1, 2, 3])
def test_targets_are_the_mean_of_the_last_blocks_each_normalized(features, top):
    method = apart(build(Data2Vec, VIT, average_top_k_layers=top, min_block=4, target_features=features))
    crops = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = targets_by_hand(method.teacher, crops, top, features == "ffn")
    found = method.targets(crops)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not found.requires_grad and found.shape == (3, 64, 32)
    assert not any(layer.output._forward_hooks for layer in method.teacher.encoder.layer)


@pytest.mark.parametrize("beta", [2.0, 0.5])
def test_the_loss_is_smooth_l1_at_the_hidden_patches(beta):
    method, batch = apart(build(Data2Vec, VIT, **SMALL, loss_beta=beta)), random_batch(Data2Vec, 5)
    start_step(method, Progress(9, 20, 5, seed=3))
    crops = batch["pixel_values"][:, 0]
    mask = method.masks(batch["index"], crops)
    tokens = method.encoder(crops, bool_masked_pos=mask).last_hidden_state[:, 1:]
    norm, linear = method.head
    predicted = F.layer_norm(tokens, (32,), norm.weight, norm.bias, 1e-6) @ linear.weight.T + linear.bias
    away = (predicted - targets_by_hand(method.teacher, crops, 2, False).detach())[mask].abs()
    expected = torch.where(away < beta, away**2 / (2 * beta), away - beta / 2).mean()
    output = method(**batch)
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)
    assert float(output.metrics["target_std"]) > 0.1
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    assert "encoder.embeddings.mask_token" in trained
    mine, reference = (torch.autograd.grad(loss, list(trained.values())) for loss in (output.loss, expected))
    largest = max(float(gradient.abs().max()) for gradient in reference)
    for name, found, wanted in zip(trained, mine, reference):
        assert (found - wanted).abs().max() < 1e-3 * largest, name


def test_the_student_does_not_see_the_hidden_patches_and_the_teacher_does():
    method, batch = build(Data2Vec, VIT, **SMALL).eval(), random_batch(Data2Vec, 4)
    crops = batch["pixel_values"]
    mask = method.masks(batch["index"], crops[:, 0])
    hidden = F.interpolate(mask.view(4, 1, 8, 8).float(), scale_factor=4).bool().unsqueeze(1)
    with torch.no_grad():
        first = method.embed(crops, batch["index"])
        second = method.embed(torch.where(hidden, 9.0, crops), batch["index"])
        third = method.embed(torch.where(hidden, crops, 9.0), batch["index"])
    torch.testing.assert_close(first["prediction"], second["prediction"])
    assert (first["prediction"] - third["prediction"]).abs().max() > 0.1
    assert (first["target"] - second["target"]).abs().max() > 0.1


def test_masks_hide_as_many_patches_everywhere_and_are_functions_of_seed_epoch_and_image():
    method, index, crops = build(Data2Vec, VIT, **SMALL), torch.arange(40), torch.zeros(40, 3, 32, 32)

    def masks(step, seed=0, pick=slice(None)):
        start_step(method, Progress(step, 60, 5, seed=seed))
        return method.masks(index[pick], crops[pick])

    first = masks(6)
    assert (first.sum(dim=1) == 38).all()  # 60 % of 64
    assert torch.equal(masks(9), first) and torch.equal(masks(6, pick=slice(20, 30)), first[20:30])
    assert not torch.equal(masks(10), first) and not torch.equal(masks(6, seed=1), first)
    assert len(first.unique(dim=0)) == 40
    # The paper's grid, and the authors' number of patches.
    paper = build(Data2Vec, VIT, average_top_k_layers=2, mask_ratio=0.6122)
    assert (paper.masks(index, torch.zeros(40, 3, 56, 56)).sum(dim=1) == 120).all()


def test_the_teacher_follows_by_a_momentum_that_changes_along_a_line():
    options = {"ema_decay": 0.8, "ema_end_decay": 1.0, "ema_anneal_end_step": 10}
    method, batch = build(Data2Vec, VIT, **SMALL, **options), random_batch(Data2Vec, 4)
    assert method.export_encoder() is method.encoder
    output = method(**batch)
    with torch.no_grad():
        method.encoder.embeddings.cls_token.fill_(3.0)
    for step, momentum in ((0, 0.8), (5, 0.9), (10, 1.0), (15, 1.0)):
        before = method.teacher.embeddings.cls_token.clone()
        method.after_step([output], Progress(step, 100))
        torch.testing.assert_close(method.teacher.embeddings.cls_token, before * momentum + 3 * (1 - momentum))
    method.config.ema_anneal_end_step = None  # the whole training
    before = method.teacher.embeddings.cls_token.clone()
    method.after_step([output], Progress(50, 100))
    torch.testing.assert_close(method.teacher.embeddings.cls_token, before * 0.9 + 0.3)


def test_the_encoder_is_given_a_mask_token_and_positions():
    encoder = build(Data2Vec, VIT, **SMALL).encoder
    assert encoder.config.use_mask_token and encoder.embeddings.mask_token.requires_grad
    assert encoder.config.use_shared_relative_position_bias
    absolute = build(Data2Vec, {**VIT, "use_absolute_position_embeddings": True}, **SMALL).encoder
    assert absolute.embeddings.position_embeddings is not None
    assert not absolute.config.use_shared_relative_position_bias


@pytest.mark.parametrize("mean_pooling", [True, False])
def test_the_head_sees_normalized_features(mean_pooling):
    method = build(Data2Vec, {**VIT, "use_mean_pooling": mean_pooling}, **SMALL)
    norms = [module for module in (method.encoder.layernorm, method.head[0]) if isinstance(module, torch.nn.LayerNorm)]
    assert len(norms) == 1 and norms[0].weight.requires_grad
    method(**random_batch(Data2Vec, 4)).loss.backward()
    assert norms[0].weight.grad.abs().sum() > 0


def test_features_are_the_mean_of_the_patches_at_any_size():
    method = apart(build(Data2Vec, VIT, **SMALL)).eval()
    crops = torch.randn(3, 3, 32, 32)
    expected = method.encoder(crops).last_hidden_state[:, 1:].mean(dim=1)
    torch.testing.assert_close(encode(method.export_encoder(), crops), expected)
    larger = torch.randn(3, 3, 48, 48)
    method.config.mask_ratio = 1e-9  # one patch
    with torch.no_grad():
        found = method.embed(larger.unsqueeze(1), torch.arange(3))
        whole = method.student(larger, torch.zeros(3, 0, dtype=torch.long)).mean(dim=1)
    assert found["prediction"].shape == (3, 1, 1, 32)
    torch.testing.assert_close(encode(method.encoder, larger), whole, rtol=1e-4, atol=1e-5)


def test_several_views_of_an_image_have_masks_of_their_own():
    method = build(Data2Vec, VIT, **SMALL)
    crops = torch.randn(3, 1, 3, 32, 32).expand(-1, 2, -1, -1, -1)
    assert len(method.masks(torch.arange(3), crops.flatten(0, 1)).unique(dim=0)) == 6
    assert method.embed(crops, torch.arange(3))["prediction"].shape == (3, 2, 38, 32)


@pytest.mark.parametrize("features", ["block", "ffn"])
def test_activation_checkpointing_changes_nothing(features):
    method, batch = apart(build(Data2Vec, VIT, **SMALL, target_features=features)), random_batch(Data2Vec, 4)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            newest = "activation_checkpointing_enable"  # the name in newer transformers
            getattr(method, newest if hasattr(method, newest) else "gradient_checkpointing_enable")()
        method.zero_grad()
        method(**batch).loss.backward()
        gradients.append([p.grad.clone() for p in method.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 20
    for plain, checkpointed in zip(*gradients):
        torch.testing.assert_close(checkpointed, plain)


def test_images_show_the_mask_and_features():
    method, batch = build(Data2Vec, VIT, **SMALL).eval(), random_batch(Data2Vec, 4)
    with torch.no_grad():
        pictures = method.visualize(batch["pixel_values"], batch["index"])
    assert list(pictures) == ["masked", "target features", "predicted features", "original"]
    assert all(picture.shape == (4, 3, 32, 32) for picture in pictures.values())
    mask = method.masks(batch["index"], batch["pixel_values"][:, 0])
    hidden = F.interpolate(mask.view(4, 1, 8, 8).float(), scale_factor=4)
    assert torch.equal(pictures["masked"], pictures["original"] * (1 - hidden))
    colored = pictures["predicted features"][:, :, ::4, ::4].abs().sum(dim=1).flatten(1) > 0
    assert torch.equal(colored, mask)


def test_half_precision_computes_errors_in_full_precision():
    method, batch = apart(build(Data2Vec, VIT, **SMALL)), random_batch(Data2Vec, 4)
    exact = method(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        output = method(**batch)
    assert output.loss.dtype == torch.float32 and output.loss.item() == pytest.approx(exact.item(), rel=0.03)


def test_another_encoder_is_refused():
    with pytest.raises(RecipeError, match="use a backbone with model_type data2vec-vision"):
        build(Data2Vec, **SMALL)


def test_more_blocks_than_there_are_cannot_be_averaged():
    with pytest.raises(ValueError, match="average_top_k_layers is 6, but the encoder has 3 blocks"):
        build(Data2Vec, VIT)


@pytest.mark.parametrize(
    "name, value",
    [
        ("mask_ratio", 0),
        ("mask_ratio", 1),
        ("min_block", 0),
        ("loss_beta", 0),
        ("ema_decay", 1.5),
        ("ema_anneal_end_step", 0),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        Data2VecConfig(**{name: value})


def test_the_settings_are_the_papers():
    config, (view,) = Data2VecConfig(), Data2Vec.views
    assert (config.mask_ratio, config.min_block, config.average_top_k_layers) == (0.6, 16, 6)
    assert (config.loss_beta, config.ema_decay, config.ema_end_decay, config.ema_anneal_end_step) == (2.0, 0.9998, 0.9998, None)  # fmt: skip
    assert (view.size, view.scale, view.horizontal_flip, view.jitter) == (224, (0.08, 1.0), 0.5, 1.0)
    assert (view.brightness, view.contrast, view.saturation, view.hue) == (0.4, 0.4, 0.4, 0)


@pytest.mark.parametrize("features", ["block", "ffn"])
def test_contract(features):
    check_method(Data2Vec, {**VIT, "patch_size": 8}, **SMALL, target_features=features)
