"""Jigsaw: how its tiles are cut, shifted and ordered, its loss by hand, the puzzle that is solved, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.jigsaw import Jigsaw, JigsawConfig
from hfcontrast.methods.jigsaw.permutations import permutation_set
from hfcontrast.testing import build, check_method, random_batch

SMALL = {"permutations": 20, "tile_dim": 8, "hidden_dim": 32}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def coordinates(count, size):
    """Images (B, 1, 3, S, S) whose channels all tell the place of a pixel: row * S + column."""
    return torch.arange(float(size * size)).view(1, 1, 1, size, size).expand(count, 1, 3, size, size)


def test_tiles_come_from_the_cells_of_their_permutation():
    method = build(Jigsaw, TINY_RESNET, **SMALL)
    index = torch.arange(500)
    tiles = method._cut(coordinates(500, 48).squeeze(1), index, 0)
    assert tiles.shape == (500, 9, 3, 12, 12)
    top, left = (tiles[:, :, 0, 0, 0] // 48).long(), (tiles[:, :, 0, 0, 0] % 48).long()
    chosen = method._chosen(index, 500)
    assert torch.equal(top // 16 * 3 + left // 16, permutation_set(20)[chosen])
    for places in (top % 16, left % 16):
        assert set(places.flatten().tolist()) == {0, 1, 2, 3, 4}  # a gap of 0 to 8 pixels to the next
    assert (tiles[:, :, 0] - tiles[:, :, :1, 0, 0].unsqueeze(3) == coordinates(1, 48)[0, 0, 0, :12, :12]).all()
    assert torch.bincount(chosen, minlength=20).min() > 8


def test_channels_are_shifted_by_up_to_so_many_pixels():
    method = build(Jigsaw, TINY_RESNET, **SMALL)
    index, pictures = torch.arange(300), coordinates(300, 48).squeeze(1)
    plain, shifted = method._cut(pictures, index, 0), method._cut(pictures, index, 2)
    corners = [(t[..., 0, 0] // 48, t[..., 0, 0] % 48) for t in (plain, shifted)]
    for before, after in zip(*corners):
        moved = after - before
        inside = (before >= 2) & (before <= 34)
        assert set(moved[inside].tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
        assert after.min() == 0 and after.max() == 36  # never beyond the image
        assert (moved[:, :, 0] != moved[:, :, 1]).any()
    assert torch.equal(method._cut(pictures[5:7], index[5:7], 2), shifted[5:7])


def test_puzzles_are_functions_of_seed_epoch_and_image():
    method, batch = build(Jigsaw, **SMALL), random_batch(Jigsaw, 4)
    pixels, index = batch["pixel_values"], batch["index"]

    def features(seed, step, pick=slice(None)):
        start_step(method, Progress(step, 10, 5, seed=seed))
        return method.embed(pixels[pick], index[pick])["h"]

    first = features(0, 0)
    assert first.shape == (4, 1, 9, 32)
    torch.testing.assert_close(features(0, 4), first)  # in the same epoch
    torch.testing.assert_close(features(0, 0, slice(2, 4)), first[2:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(features(0, 5), first, atol=1e-3)
    assert not torch.allclose(features(1, 0), first, atol=1e-3)


def test_the_loss_is_the_cross_entropy_of_the_permutations():
    method, batch = build(Jigsaw, **SMALL), random_batch(Jigsaw, 3)
    output = method(**batch)
    tiles = method._cut(batch["pixel_values"][:, 0], batch["index"], 2)
    logits, pooled = [], []
    for nine in tiles:
        lit = (nine - nine.mean(dim=(2, 3), keepdim=True)) / nine.std(dim=(2, 3), correction=0, keepdim=True)
        features = [encode(method.encoder, tile[None])[0] for tile in lit]
        fc6 = torch.cat([method.tile_head[0](feature).relu() for feature in features])
        logits.append(method.puzzle_head[2](method.puzzle_head[0](fc6).relu()))
        pooled.append(torch.stack(features).mean(dim=0))
    chosen = method._chosen(batch["index"], 3)
    torch.testing.assert_close(output.loss, F.cross_entropy(torch.stack(logits), chosen), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(output.embeddings[:, 0], torch.stack(pooled).detach(), rtol=1e-3, atol=1e-4)
    found = [int(row.argmax() == number) for row, number in zip(logits, chosen)]
    assert output.metrics["accuracy"].item() == pytest.approx(sum(found) / 3)


def test_several_crops_are_several_puzzles():
    method, pixels = build(Jigsaw, **SMALL), torch.randn(2, 3, 3, 32, 32)
    assert len(method._chosen(torch.arange(2), 6).unique()) > 2
    output = method(pixel_values=pixels, index=torch.arange(2))
    assert output.embeddings.shape == (2, 3, 32) and torch.isfinite(output.loss)


@torch.no_grad()
def test_a_solved_puzzle_equals_the_image():
    method = build(Jigsaw, TINY_RESNET, **SMALL).eval()
    pixels, index = torch.randn(6, 1, 3, 48, 48), torch.arange(6)
    chosen = method._chosen(index, 6)
    method.puzzle_head[2].weight.zero_()
    method.puzzle_head[2].bias.copy_(F.one_hot(chosen[0], 20).float())  # right for the first image
    sheet = method.visualize(pixel_values=pixels, index=index)
    assert list(sheet) == ["shuffled", "solved", "original"]
    assert torch.equal(sheet["original"], pixels[:, 0])
    tiles = method._cut(pixels[:, 0], index, 0)
    orders = {"shuffled": torch.arange(9).expand(6, -1), "solved": method.orders[chosen[:1]].expand(6, -1)}
    for name, cells in orders.items():
        for picture, nine, own in zip(sheet[name], tiles, cells.tolist()):
            for tile, cell in zip(nine, own):
                y, x = cell // 3 * 16 + 2, cell % 3 * 16 + 2
                assert torch.equal(picture[:, y : y + 12, x : x + 12], tile)
            assert picture.count_nonzero() == nine.numel()
    corner = sheet["solved"][0, :, 2:14, 2:14]  # the tile from the upper left cell is there again
    windows = pixels[0, 0, :, :16, :16].unfold(1, 12, 1).unfold(2, 12, 1)
    assert any(torch.equal(corner, windows[:, y, x]) for y in range(5) for x in range(5))


def test_the_orders_are_kept_with_the_method(tmp_path):
    method = build(Jigsaw, **SMALL)
    assert torch.equal(method.orders, permutation_set(20)) and "orders" in method.state_dict()
    method.save_pretrained(tmp_path)
    assert torch.equal(Jigsaw.from_pretrained(tmp_path).orders, method.orders)


def test_tiles_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="patch_size is 12 px, but the encoder's patch size is 8 px"):
        build(Jigsaw, patch_size=12, **SMALL)
    method = build(Jigsaw, patch_size=16, **SMALL)
    with pytest.raises(RecipeError, match="cells of 10 px.* no patch of 16 px: give 48 or more"):
        method(**random_batch(Jigsaw, 2))


@pytest.mark.parametrize(
    "name, value",
    [("permutations", 1), ("permutations", 20_000), ("patch_size", 0), ("channel_shift", -1), ("tile_dim", 0)],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        JigsawConfig(**{name: value})


def test_the_settings_are_the_papers():
    config, (view,) = JigsawConfig(), Jigsaw.views
    assert (config.permutations, config.channel_shift, config.tile_dim, config.hidden_dim) == (1000, 2, 1024, 4096)
    assert (view.count, view.size, view.scale, view.ratio) == (1, 255, (1.0, 1.0), (1.0, 1.0))
    assert (view.grayscale, view.horizontal_flip, view.jitter, view.blur) == (0.3, 0, 0, 0)


def test_contract():
    """Every few steps are an epoch with other puzzles: that takes longer to learn than thirty steps."""
    check_method(Jigsaw, learning_steps=100, permutations=3, tile_dim=16, hidden_dim=64)
