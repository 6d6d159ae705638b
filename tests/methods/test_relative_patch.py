"""Relative patch: where its pairs lie, what is done to them, its loss by hand, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.relative_patch import NEIGHBORS, RelativePatch, RelativePatchConfig
from hfcontrast.nn.patches.squares import cut_squares
from hfcontrast.testing import build, check_method, random_batch

SMALL = {"hidden_dim": 32}
PLAIN = {"color": "none", "pixelation": 0.0, "standardize": False}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def pairs(count, size, backbone=TINY_RESNET, **options):
    """The method, and of many images the neighbor and the corners of both patches, (B, 2) each."""
    method = build(RelativePatch, backbone, **SMALL, **options)
    index = torch.arange(count)
    return method, method._neighbors(index, count), *method._pairs(index, count, size)


@pytest.mark.parametrize("size, side, gap, jitter", [(400, 96, 48, 7), (48, 12, 6, 1), (64, 15, 7, 1)])
def test_a_neighbor_lies_beyond_the_gap(size, side, gap, jitter):
    method, neighbors, top, left = pairs(4000, size)
    assert method._sizes(size) == (side, gap, jitter)
    steps = torch.tensor(NEIGHBORS)[neighbors] * (side + gap)
    for corners, step in ((top, steps[:, 0]), (left, steps[:, 1])):
        assert corners.min() >= 0 and corners.max() <= size - side
        moved = corners.diff(dim=1).squeeze(1) - step
        assert moved.abs().max() <= 2 * jitter  # both are jittered
        assert {-2 * jitter, 0, 2 * jitter} <= set(moved.tolist())
    assert torch.bincount(neighbors).min() > 4000 / 8 * 0.8 and len(set(NEIGHBORS)) == 8
    apart = torch.maximum(top.diff(dim=1).abs(), left.diff(dim=1).abs())
    assert apart.min() >= side + gap - 2 * jitter


def test_a_pair_lies_anywhere_in_the_view():
    _, neighbors, top, left = pairs(20_000, 48)
    right = neighbors == NEIGHBORS.index((0, 1))
    assert top[right].min() == 0 and top[right].max() == 48 - 12
    assert left[right].min() == 0 and left[right].max() == 48 - 12


def test_pairs_are_functions_of_seed_epoch_and_image():
    method, batch = build(RelativePatch, **SMALL), random_batch(RelativePatch, 4)
    pixels, index = batch["pixel_values"], batch["index"]

    def features(seed, step, pick=slice(None)):
        start_step(method, Progress(step, 10, 5, seed=seed))
        return method.embed(pixels[pick], index[pick])["h"]

    first = features(0, 0)
    assert first.shape == (4, 1, 2, 32)
    torch.testing.assert_close(features(0, 4), first)  # in the same epoch
    torch.testing.assert_close(features(0, 0, slice(2, 4)), first[2:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(features(0, 5), first, atol=1e-3)
    assert not torch.allclose(features(1, 0), first, atol=1e-3)


def test_the_loss_is_the_cross_entropy_of_the_places():
    method, batch = build(RelativePatch, **SMALL, **PLAIN), random_batch(RelativePatch, 6)
    pixels, index = batch["pixel_values"], batch["index"]
    output = method(**batch)
    side, *_ = method._sizes(32)
    patches = cut_squares(pixels[:, 0], *method._pairs(index, 6, 32), side)
    one, two = (encode(method.encoder, patches[:, k]) for k in range(2))
    linear, *_ = method.patch_head
    fc6 = linear(torch.cat([one, two]))
    fc6 = ((fc6 - fc6.mean(dim=0)) / (fc6.var(dim=0, correction=0) + 1e-5).sqrt()).relu()
    fc7 = method.pair_head[0](torch.cat([fc6[:6], fc6[6:]], dim=1))
    fc7 = ((fc7 - fc7.mean(dim=0)) / (fc7.var(dim=0, correction=0) + 1e-5).sqrt()).relu()
    logits = method.pair_head[5](method.pair_head[3](fc7).relu())
    places = method._neighbors(index, 6)
    torch.testing.assert_close(output.loss, F.cross_entropy(logits, places), rtol=1e-3, atol=1e-4)
    assert output.metrics["accuracy"] == (logits.argmax(dim=1) == places).float().mean()
    torch.testing.assert_close(output.embeddings[:, 0], one.detach(), rtol=1e-4, atol=1e-5)


def seen_by_the_encoder(pixels, **options):
    """What the patches are when the encoder gets them, (B, 2, C, side, side)."""
    method, seen = build(RelativePatch, TINY_RESNET, **SMALL, **options), []
    method.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method.embed(pixels, torch.arange(len(pixels)))
    return method, seen[0].unflatten(0, (-1, 2))


def test_dropped_colors_are_other_ones_in_each_patch():
    pixels = torch.randn(40, 1, 3, 96, 96)
    options = {"color": "drop", "pixelation": 0.0, "standardize": False}
    method, patches = seen_by_the_encoder(pixels, **options)
    originals = cut_squares(pixels[:, 0], *method._pairs(torch.arange(40), 40, 96), patches.shape[-1])
    stays = (patches == originals).flatten(3).all(dim=3)
    assert (stays.sum(dim=2) == 1).all()
    kept = stays.int().argmax(dim=2)
    assert set(kept.flatten().tolist()) == {0, 1, 2} and (kept[:, 0] != kept[:, 1]).any()
    assert patches[~stays].std() < 0.02


def test_patches_are_as_the_settings_say():
    pixels = torch.randn(30, 1, 3, 96, 96) * 2 + 3
    _, plain = seen_by_the_encoder(pixels, **PLAIN)
    _, projected = seen_by_the_encoder(pixels, **{**PLAIN, "color": "project"})
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    rgb = projected.movedim(2, -1) * std + mean
    torch.testing.assert_close(rgb @ torch.tensor([-1.0, 2.0, -1.0]), torch.zeros(rgb.shape[:-1]), rtol=0, atol=1e-4)
    _, standardized = seen_by_the_encoder(pixels, **{**PLAIN, "standardize": True})
    assert standardized.mean(dim=(-2, -1)).abs().max() < 1e-4 and plain.mean() > 2
    _, coarse = seen_by_the_encoder(pixels, **{**PLAIN, "pixelation": 0.33})
    changed = (coarse - plain).abs().amax(dim=(2, 3, 4)) > 1e-3
    assert 10 <= changed.sum() <= 30  # of 60


@torch.no_grad()
def test_the_sheet_shows_both_places():
    method = build(RelativePatch, **SMALL).eval()
    pixels, index = torch.randn(3, 1, 3, 48, 48), torch.arange(3)
    sheet = method.visualize(pixel_values=pixels, index=index)
    assert list(sheet) == ["image", "true place", "predicted place"]
    side, gap, _ = method._sizes(48)
    patches = cut_squares(pixels[:, 0], *method._pairs(index, 3, 48), side)
    features = method.embed(pixels, index)["h"]
    for name, places in (
        ("true place", method._neighbors(index, 3)),
        ("predicted place", method._logits(features).argmax(dim=1)),
    ):
        for picture, pair, place in zip(sheet[name], patches, places):
            middle = (48 - side) // 2
            down, right = (middle + step * (side + gap) for step in NEIGHBORS[int(place)])
            assert torch.equal(picture[:, middle : middle + side, middle : middle + side], pair[0])
            assert torch.equal(picture[:, down : down + side, right : right + side], pair[1])
            assert picture.count_nonzero() == pair.numel()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="patch_size is 12 px, but the encoder's patch size is 8 px"):
        build(RelativePatch, patch_size=12, **SMALL)
    method = build(RelativePatch, patch_size=16, **SMALL)
    with pytest.raises(RecipeError, match="view of 32 px does not hold two patches of 16 px with a gap of 8 px"):
        method(**random_batch(RelativePatch, 2))
    with pytest.raises(ValueError, match="color=project needs image_mean and image_std: they are"):
        build(RelativePatch, color="project", image_mean=None, **SMALL)


@pytest.mark.parametrize(
    "name, value", [("patch_size", 0), ("gap", -1), ("jitter", -1), ("pixelation", 1.5), ("hidden_dim", 0)]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        RelativePatchConfig(**{name: value})


def test_the_settings_are_the_papers():
    config, (view,) = RelativePatchConfig(), RelativePatch.views
    assert (config.color, config.pixelation, config.standardize, config.hidden_dim) == ("drop", 0.33, True, 4096)
    assert (view.count, view.size, view.ratio) == (1, 400, (1.0, 1.0))
    assert 400**2 / view.scale[0] == pytest.approx(450_000, rel=0.02)
    assert (view.horizontal_flip, view.jitter, view.grayscale, view.blur) == (0, 0, 0, 0)


def test_contract():
    check_method(RelativePatch, **SMALL)
