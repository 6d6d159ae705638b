"""Augmentations against shortcuts: colors dropped or projected, patches downsampled, and their brightness normalized."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.methods.jigsaw.method import standardize_channels
from hfcontrast.methods.relative_patch.shortcuts import (
    coarsest,
    drop_colors,
    pixelate,
    project_colors,
    standardize_patches,
)


def uniform(*shape):
    return (torch.rand(*shape) * 2**24).floor() * 2.0**-24


def test_one_channel_stays_and_the_others_are_weak_noise():
    patches = 3 * torch.randn(60, 3, 16, 16) + 1
    kept = torch.arange(60) % 3
    numbers = uniform(60, 3 * 16 * 16)
    numbers[0, 256:] = torch.tensor([0.0, 1 - 2.0**-24]).repeat(256)  # the ends of what can be drawn
    dropped = drop_colors(patches, kept, numbers)
    assert torch.isfinite(dropped).all()
    ratios = []
    for patch, result, channel in list(zip(patches, dropped, kept))[1:]:
        assert torch.equal(result[channel], patch[channel])
        noise = result[[c for c in range(3) if c != channel]]
        assert noise.mean().abs() < 0.01
        ratios.append(noise.std() / patch[channel].std())
    assert torch.stack(ratios).mean().item() == pytest.approx(0.01, rel=0.02)
    noise = dropped[3, 1:] / dropped[3, 1:].std()
    assert (noise.abs() < 1).float().mean().item() == pytest.approx(0.683, abs=0.06)  # as normal noise has it


def test_what_lies_between_green_and_magenta_is_projected_away():
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    rgb = torch.rand(2, 3, 4, 4)
    a = torch.tensor([-1.0, 2.0, -1.0])
    matrix = torch.eye(3) - torch.outer(a, a) / 6

    def normalized(values):
        return (values - mean.view(3, 1, 1)) / std.view(3, 1, 1)

    projected = project_colors(normalized(rgb), mean, std)
    for image in range(2):
        for row in range(4):
            for column in range(4):
                expected = (matrix @ rgb[image, :, row, column] - mean) / std
                torch.testing.assert_close(projected[image, :, row, column], expected, rtol=1e-4, atol=1e-5)
    shifted = rgb + 0.3 * a.view(3, 1, 1)
    torch.testing.assert_close(project_colors(normalized(shifted), mean, std), projected, rtol=1e-4, atol=1e-5)
    gray = torch.rand(2, 1, 4, 4).expand(-1, 3, -1, -1)
    torch.testing.assert_close(project_colors(normalized(gray), mean, std), normalized(gray), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [24, 96])
def test_coarse_patches_are_resized_patches(side):
    patches, numbers = torch.randn(12, 3, side, side), torch.rand(12, 2)
    numbers[:2, 1] = torch.tensor([0.0, 1 - 2.0**-24])
    numbers[:2, 0] = 0.0
    results = pixelate(patches, numbers, 0.5)
    changed = 0
    for patch, result, (chance, share) in zip(patches, results, numbers.tolist()):
        if chance >= 0.5:
            torch.testing.assert_close(result, patch)
            continue
        least = coarsest(side)
        small = int((least**2 + share * ((side - 1) ** 2 - least**2)) ** 0.5)
        assert least <= small < side
        shrunk = F.interpolate(patch[None], (small, small), mode="bilinear", antialias=True)
        expected = F.interpolate(shrunk, (side, side), mode="bilinear")[0]
        torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)
        changed += 1
    assert 2 <= changed < 12 and coarsest(96) == 10


def test_nothing_is_coarse_unasked():
    patches = torch.randn(4, 3, 12, 12)
    torch.testing.assert_close(pixelate(patches, torch.rand(4, 2), 0.0), patches)
    tiny = torch.randn(4, 3, 2, 2)
    assert torch.equal(pixelate(tiny, torch.zeros(4, 2), 1.0), tiny)


def test_patches_lose_their_light():
    patches = torch.randn(5, 9, 3, 8, 8) * (0.5 + torch.rand(5, 9, 3, 1, 1)) + torch.randn(5, 9, 3, 1, 1)
    for standardized, dims in ((standardize_channels(patches), (-2, -1)), (standardize_patches(patches), (-3, -2, -1))):
        assert standardized.mean(dim=(-2, -1)).abs().max() < 1e-5
        assert standardized.square().mean(dim=dims).min() > 0.98
        assert standardized.square().mean(dim=dims).max() < 1.001
    lit = patches * 3 + 1
    torch.testing.assert_close(standardize_patches(lit), standardize_patches(patches), rtol=1e-3, atol=1e-3)
    assert torch.equal(standardize_channels(torch.full((1, 3, 4, 4), 2.0)), torch.zeros(1, 3, 4, 4))
    assert torch.equal(standardize_patches(torch.full((1, 3, 4, 4), 2.0)), torch.zeros(1, 3, 4, 4))
