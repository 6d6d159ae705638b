"""AIM: which patch sees which, the loss from the paper's formulas, its prefixes, its images, and the paper's settings."""

import pytest
import torch

from hfcontrast.encoders import encode
from hfcontrast.encoders.vit import sincos_positions
from hfcontrast.errors import RecipeError
from hfcontrast.methods.aim import AIM, AIMConfig
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.testing import build, check_method, random_batch

SMALL = {"head_blocks": 2, "head_width": 16}
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
VIT, BARE = {"model_type": "vit", **SIZES}, {"model_type": "ijepa", **SIZES}
both = pytest.mark.parametrize("backbone", [VIT, BARE], ids=["vit", "no class token"])


def numbers(crops):
    """Patches (N, 16, 192), each less its mean, by its standard deviation, and those two."""
    patches = torch.stack(
        [
            crops[:, :, y : y + 8, x : x + 8].permute(0, 2, 3, 1).flatten(1)
            for y in (0, 8, 16, 24)
            for x in (0, 8, 16, 24)
        ],
        dim=1,
    )
    mean, std = patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    return (patches - mean) / std, mean, std


@both
def test_a_patch_sees_the_patches_before_it_and_the_prefix(backbone):
    method = build(AIM, backbone, **SMALL).eval()
    crops, prefix = torch.randn(5, 3, 32, 32), torch.tensor([0, 1, 4, 9, 15])
    with torch.no_grad():
        before = method.encode_in_order(crops, prefix)
        for patch in range(16):
            changed = crops.clone()
            y, x = patch // 4 * 8, patch % 4 * 8
            changed[:, :, y : y + 8, x : x + 8] += 1.0
            moved = (method.encode_in_order(changed, prefix) - before).abs().amax(dim=-1) > 1e-6
            for sample, length in enumerate(prefix.tolist()):
                expected = [patch <= place or patch < length for place in range(15)]
                assert moved[sample].tolist() == expected


@both
def test_a_prefix_of_all_patches_is_plain_attention(backbone):
    method = build(AIM, backbone, **SMALL).eval()
    crops = torch.randn(2, 3, 32, 32)
    hidden = method.encode_in_order(crops, torch.tensor([16, 16]))
    plain = method.encoder(crops).last_hidden_state[:, -16:-1]
    torch.testing.assert_close(hidden, plain, rtol=1e-4, atol=1e-5)


def head_by_hand(head, hidden, place):
    """One patch's features to the next patch's pixels."""
    tokens = head.embed.weight @ hidden + sincos_positions(4, 4, 16)[place]
    for norm, wide, act, narrow in head.blocks:
        tokens = tokens + narrow.weight @ act(wide.weight @ norm(tokens))
    return head.predict.weight @ head.norm(tokens)


@pytest.mark.parametrize("backbone, causal", [(VIT, False), (BARE, False), (VIT, True)])
def test_the_loss_is_the_mean_over_the_patches_after_the_prefix(backbone, causal):
    method, batch = build(AIM, backbone, **SMALL, causal=causal), random_batch(AIM, 5)
    start_step(method, Progress(9, 20, 5, seed=3))
    crops = batch["pixel_values"][:, 0]
    prefix = [0] * 5 if causal else [1 + int(15 * u) for u in method.random_uniform(batch["index"], 1, 1).flatten()]
    hidden, targets = method.encode_in_order(crops, torch.tensor(prefix)), numbers(crops)[0]
    errors = []
    for sample, length in enumerate(prefix):
        for patch in range(max(length, 1), 16):  # counted from 0; before the first there is nothing
            found = head_by_hand(method.head, hidden[sample, patch - 1], patch - 1)
            errors.append(((found - targets[sample, patch]) ** 2).mean())
    assert len(set(prefix)) > 1 or causal
    output, expected = method(**batch), torch.stack(errors).mean()
    torch.testing.assert_close(output.loss, expected, rtol=1e-4, atol=1e-5)
    assert float(output.metrics["predicted_patches"]) == pytest.approx(len(errors) / 5)
    trained = [p for p in method.parameters() if p.requires_grad]
    mine, wanted = (torch.autograd.grad(loss, trained) for loss in (output.loss, expected))
    for found, reference in zip(mine, wanted):
        torch.testing.assert_close(found, reference, rtol=1e-3, atol=1e-5)


def test_prefixes_are_uniform_and_functions_of_seed_epoch_and_image():
    method, index = build(AIM, VIT, **SMALL), torch.arange(64)
    crops = torch.randn(1, 1, 3, 32, 32).expand(64, -1, -1, -1, -1)

    def predicted(step, seed=0, pick=slice(None)):
        start_step(method, Progress(step, 60, 5, seed=seed))
        with torch.no_grad():
            return method.embed(crops[pick], index[pick])["predicted"]

    first = predicted(6)
    assert torch.equal(predicted(8), first) and torch.equal(predicted(6, pick=slice(20, 30)), first[20:30])
    assert not torch.equal(predicted(10), first) and not torch.equal(predicted(6, seed=1), first)
    counts = torch.cat([predicted(5 * epoch) for epoch in range(12)])
    assert set(counts.tolist()) == set(range(1, 16))  # 16 patches, prefixes of 1 to 15
    assert abs(float(counts.float().mean()) - 8) < 0.6


def test_several_views_of_an_image_have_prefixes_of_their_own():
    method = build(AIM, VIT, **SMALL)
    crops = torch.randn(6, 1, 3, 32, 32).expand(-1, 2, -1, -1, -1)
    with torch.no_grad():
        together = method.embed(crops, torch.arange(6))
    assert together["error"].shape == together["predicted"].shape == (6,)
    assert (together["predicted"] % 2 == 1).any()  # two equal prefixes would give even numbers


@both
def test_positions_are_fixed_and_features_are_the_mean_of_the_patches(backbone):
    method = build(AIM, backbone, **SMALL).eval()
    positions = method.encoder.embeddings.position_embeddings
    assert not positions.requires_grad
    assert torch.equal(positions[0, -16:], sincos_positions(4, 4, 32))
    crops = torch.randn(3, 3, 32, 32)
    expected = method.encoder(crops).last_hidden_state[:, -16:].mean(dim=1)
    torch.testing.assert_close(encode(method.export_encoder(), crops), expected)


def test_images_show_prefix_prediction_and_original():
    method, batch = build(AIM, VIT, **SMALL).eval(), random_batch(AIM, 3)
    crops = batch["pixel_values"][:, 0]
    with torch.no_grad():
        pictures = method.visualize(batch["pixel_values"])
        hidden = method.encode_in_order(crops, torch.full((3,), 5))
        assert list(pictures) == ["prefix", "predicted", "original"]
        prefix, predicted, original = (numbers(picture) for picture in pictures.values())
        for patch in range(16):
            values = predicted[0][:, patch] * predicted[2][:, patch] + predicted[1][:, patch]
            true, mean, std = (part[:, patch] for part in numbers(crops))
            if patch < 5:
                torch.testing.assert_close(values, true * std + mean, rtol=1e-4, atol=1e-4)
                assert torch.equal(prefix[1][:, patch], mean)
            else:
                found = torch.stack([head_by_hand(method.head, h[patch - 1], patch - 1) for h in hidden])
                torch.testing.assert_close(values, found * std + mean, rtol=1e-3, atol=1e-3)
                assert (prefix[1][:, patch] == 0).all()
    assert torch.equal(pictures["original"], crops)


def test_half_precision_computes_errors_in_full_precision():
    method, batch = build(AIM, VIT, **SMALL), random_batch(AIM, 4)
    exact = method(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(**batch).loss
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact.item(), rel=0.02)


def test_an_image_of_one_patch_is_refused():
    method = build(AIM, VIT, **SMALL)
    with pytest.raises(RecipeError, match="predicts a patch from those before it"):
        method.embed(torch.zeros(2, 1, 3, 8, 8), torch.arange(2))


def test_an_encoder_without_patches_is_refused():
    with pytest.raises(RecipeError, match="use a backbone with model_type vit or ijepa"):
        build(AIM, **SMALL)


@pytest.mark.parametrize("name, value", [("head_blocks", -1), ("head_width", 6), ("head_width", 0)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        AIMConfig(**{name: value})


def test_the_settings_are_the_papers():
    config, (view,) = AIMConfig(), AIM.views
    assert (config.head_blocks, config.head_width, config.causal) == (12, 2048, False)
    assert (view.size, view.scale, view.horizontal_flip, view.jitter, view.interpolation) == (
        224,
        (0.4, 1.0),
        0.5,
        0,
        "bicubic",
    )


@pytest.mark.parametrize("backbone, causal", [(VIT, False), (BARE, True)])
def test_contract(backbone, causal):
    check_method(AIM, backbone, **SMALL, causal=causal)
