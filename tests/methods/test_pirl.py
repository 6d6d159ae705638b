"""PIRL: the nine patches of its jigsaw, its loss from the paper's formulas, its memory bank, and the paper's settings."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.encoders import encode
from hfcontrast.errors import RecipeError
from hfcontrast.methods.base import Progress
from hfcontrast.methods.contract.steps import start_step
from hfcontrast.methods.pirl import PIRL, PIRLConfig, cut_puzzle
from hfcontrast.nn import sample_others
from hfcontrast.testing import build, check_method, random_batch

SMALL = {"projection_dim": 8, "negatives": 20}
TINY_RESNET = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16],
    "depths": [1, 1],
    "layer_type": "basic",
}


def coordinates(count, size):
    """Images whose channels are the number of the image, the row and the column of a pixel."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    images = torch.arange(count).view(-1, 1, 1).expand(-1, size, size)
    return torch.stack([images, row.expand_as(images), column.expand_as(images)], dim=1).float()


def corners(patches):
    """Row and column of the first pixel of each patch, (B, 9) each."""
    return patches[:, :, 1, 0, 0].long(), patches[:, :, 2, 0, 0].long()


@pytest.mark.parametrize("size, side", [(255, 64), (32, 8), (31, 10)])
def test_patches_are_whole_and_each_cell_gives_one(size, side):
    cell = size // 3
    patches = cut_puzzle(coordinates(6, size), side, torch.rand(6, 27))
    assert patches.shape == (6, 9, 3, side, side)
    top, left = corners(patches)
    for image in range(6):
        cells = []
        for patch, y, x in zip(patches[image], top[image], left[image]):
            expected = torch.stack([torch.full((side, side), float(image)), *coordinates(1, size)[0, 1:]
                                    [:, y : y + side, x : x + side]])  # fmt: skip
            assert torch.equal(patch, expected)
            assert y % cell + side <= cell and x % cell + side <= cell
            cells.append((int(y) // cell, int(x) // cell))
        assert sorted(cells) == [(row, column) for row in range(3) for column in range(3)]


def test_places_and_orders_are_all_reached():
    top, left = corners(cut_puzzle(coordinates(3000, 9), 2, torch.rand(3000, 27)))
    for places in (top, left):
        counts = torch.bincount((places % 3).flatten())
        assert len(counts) == 2 and (counts / counts.sum() - 0.5).abs().max() < 0.02
    cells = top // 3 * 3 + left // 3
    for place in range(9):
        counts = torch.bincount(cells[:, place], minlength=9) / 3000
        assert (counts - 1 / 9).abs().max() < 0.03
    assert len(cells.unique(dim=0)) > 2950  # of 362,880 orders


def test_the_largest_number_stays_inside():
    top, left = corners(cut_puzzle(coordinates(1, 255), 64, torch.full((1, 27), 1 - 2.0**-24)))
    assert (top % 85 == 21).all() and (left % 85 == 21).all()


def test_jigsaws_are_functions_of_seed_step_and_image():
    method, batch = build(PIRL, **SMALL), random_batch(PIRL, 4)

    def patches(seed, step, pick=slice(None)):
        start_step(method, Progress(step, 10, seed=seed))
        return method.embed(**{name: value[pick] for name, value in batch.items() if name != "labels"})["patches"]

    first = patches(0, 3)
    torch.testing.assert_close(patches(0, 3, slice(2, 4)), first[2:], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(patches(0, 4), first, atol=1e-3)
    assert not torch.allclose(patches(1, 3), first, atol=1e-3)
    assert first.shape == (4, 1, 9, 32)


def nce_by_hand(v, own, others, temperature):
    """Equation 3, and the sum of both terms."""
    total = 0.0
    for query, positive, negatives in zip(v, own, others):
        h = torch.stack([query @ row / temperature for row in (positive, *negatives)]).softmax(0)
        total = total - h[0].log() - (1 - h[1:]).log().sum()
    return total / len(v)


@pytest.mark.parametrize("weight", [0.5, 0.2])
def test_the_loss_is_that_of_the_parts(weight):
    method, batch = build(PIRL, **SMALL, jigsaw_weight=weight, temperature=0.2), random_batch(PIRL, 4)
    start_step(method, Progress(5, 10, seed=3))
    embeddings = method.embed(batch["pixel_values"], batch["jigsaw_pixel_values"], batch["index"])
    image = encode(method.encoder, batch["pixel_values"][:, 0])
    torch.testing.assert_close(embeddings["image"][:, 0], image, rtol=1e-4, atol=1e-5)
    f = F.normalize(method.image_head(image), dim=1).double()
    parts = [method.patch_head(embeddings["patches"][:, 0, k]) for k in range(9)]
    g = F.normalize(method.jigsaw_head(torch.cat(parts, dim=1)), dim=1).double()
    rows = method.bank.rows.double()
    chosen = sample_others(batch["index"], 20, 64, 3, 5, 2)
    assert (chosen != batch["index"].unsqueeze(1)).all()
    losses = [nce_by_hand(v, rows[batch["index"]], rows[chosen], 0.2) for v in (f, g)]
    output = method(**batch)
    torch.testing.assert_close(
        output.loss.double(), (1 - weight) * losses[0] + weight * losses[1], rtol=1e-4, atol=1e-4
    )
    found = [output.metrics[name].double() for name in ("image_loss", "jigsaw_loss")]
    torch.testing.assert_close(torch.stack(found), torch.stack(losses).detach(), rtol=1e-4, atol=1e-4)


def test_the_bank_follows_the_images_and_not_the_jigsaws():
    method, batch = build(PIRL, **SMALL), random_batch(PIRL, 4)
    batch["index"] = torch.tensor([9, 0, 63, 5])
    before = method.bank.rows.clone()
    output = method(**batch)
    assert torch.equal(method.bank.rows, before)
    f = F.normalize(method.image_head(encode(method.encoder, batch["pixel_values"][:, 0])), dim=1).detach()
    method.after_step([output], Progress(0, 10))
    expected = before.clone()
    expected[batch["index"]] = F.normalize((before[batch["index"]] + f) / 2, dim=1)
    torch.testing.assert_close(method.bank.rows, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "backbone, size, side",
    [
        (TINY_RESNET, 255, 64),
        (TINY_RESNET, 72, 18),
        (TINY_RESNET, 32, 8),
        (None, 240, 56),
        (None, 72, 16),
        (None, 24, 8),
    ],
)
def test_patches_take_three_quarters_of_a_cell_rounded_to_what_the_encoder_takes(backbone, size, side):
    method, seen = build(PIRL, backbone, **SMALL), []
    method.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    method.embed(torch.zeros(2, 1, 3, 32, 32), torch.zeros(2, 1, 3, size, size), torch.arange(2))
    assert seen == [(18, 3, side, side), (2, 3, 32, 32)]


def test_a_patch_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="patch_size is 12 px, but the encoder's patch size is 8 px"):
        build(PIRL, patch_size=12)
    method = build(PIRL, **SMALL, patch_size=16)
    with pytest.raises(RecipeError, match="cells of 10 px.* no patch of 16 px: give 48 or more"):
        method(**random_batch(PIRL, 2))


def test_the_size_of_the_data_set_must_be_known():
    with pytest.raises(ValueError, match="num_images is None"):
        build(PIRL, num_images=None)


@pytest.mark.parametrize(
    "name, value",
    [("temperature", 0), ("negatives", 0), ("bank_momentum", 1.5), ("jigsaw_weight", -1), ("patch_size", 0)],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(Exception, match=f"{name} is {value}, expected"):
        PIRLConfig(**{name: value})


def test_the_settings_are_the_papers():
    config, (image, jigsaw) = PIRLConfig(), PIRL.views
    assert (config.projection_dim, config.temperature, config.negatives) == (128, 0.07, 32000)
    assert (config.bank_momentum, config.jigsaw_weight) == (0.5, 0.5)
    assert (image.key, image.count, image.size, image.scale) == ("pixel_values", 1, 224, (0.08, 1.0))
    assert (jigsaw.key, jigsaw.count, jigsaw.size, jigsaw.scale) == ("jigsaw_pixel_values", 1, 255, (0.6, 1.0))
    for view in (image, jigsaw):
        assert (view.brightness, view.contrast, view.saturation, view.hue, view.jitter) == (0.4, 0.4, 0.4, 0.2, 1.0)
        assert (view.grayscale, view.horizontal_flip, view.blur) == (0.2, 0.5, 0)


def test_contract():
    check_method(PIRL, **SMALL)
