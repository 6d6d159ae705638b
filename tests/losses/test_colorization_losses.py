"""Colorization's targets, weights, loss and decoding against the paper's formulas, written out color by color."""

import math

import pytest
import torch

from hfcontrast.losses import annealed_mean, color_cross_entropy, rebalancing_weights, soft_encode

BINS = 10.0 * torch.cartesian_prod(torch.arange(-2, 3), torch.arange(-2, 3)).float()


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def dense(numbers, shares, count):
    return torch.zeros(len(numbers), count).scatter(1, numbers, shares)


def test_a_color_is_shared_out_to_its_nearest_bins():
    colors = 12 * random(40, 2)
    numbers, shares = soft_encode(colors, BINS)
    for color, near, share in zip(colors, numbers, shares):
        distances = [math.dist(color.tolist(), middle) for middle in BINS.tolist()]
        expected = sorted(range(25), key=distances.__getitem__)[:5]
        assert near.tolist() == expected
        parts = [math.exp(-(distances[i] ** 2) / 50) for i in expected]
        torch.testing.assert_close(share, torch.tensor(parts) / sum(parts), rtol=1e-4, atol=1e-6)
    assert numbers.dtype == torch.long and not shares.requires_grad


def test_a_color_in_the_middle_of_its_bin():
    numbers, shares = soft_encode(torch.tensor([[10.0, -10.0]]), BINS, 3, 5.0)
    assert BINS[numbers[0, 0]].tolist() == [10, -10]
    side = math.exp(-2)  # ten away, at a sigma of five
    torch.testing.assert_close(shares, torch.tensor([[1, side, side]]) / (1 + 2 * side))
    nearest, whole = soft_encode(12 * random(9, 2), BINS, 1)
    assert torch.equal(whole, torch.ones(9, 1)) and nearest.shape == (9, 1)


def test_many_colors_are_looked_at_piece_by_piece():
    colors = 15 * random(40_000, 2)
    numbers, shares = soft_encode(colors, BINS)
    some = torch.arange(0, 40_000, 999)
    again = soft_encode(colors[some], BINS)
    assert torch.equal(numbers[some], again[0]) and torch.equal(shares[some], again[1])


@pytest.mark.parametrize("sigma, share", [(5.0, 0.5), (8.0, 0.1), (5.0, 0.0)])
def test_rare_colors_weigh_more(sigma, share):
    counts = (5 * random(25)).abs()
    smooth = torch.zeros(25, dtype=torch.double)
    for j in range(25):
        kernel = [math.exp(-(math.dist(BINS[i].tolist(), BINS[j].tolist()) ** 2) / (2 * sigma**2)) for i in range(25)]
        for i in range(25):
            smooth[i] += float(counts[j] / counts.sum()) * kernel[i] / sum(kernel)
    assert smooth.sum().item() == pytest.approx(1.0)
    expected = 1 / ((1 - share) * smooth + share / 25)
    expected /= (smooth * expected).sum()
    weights = rebalancing_weights(counts, BINS, sigma, share)
    torch.testing.assert_close(weights.double(), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(rebalancing_weights(counts * 7, BINS, sigma, share), weights)
    assert torch.equal(weights.argsort(), smooth.argsort(descending=True))


def test_weights_are_equal_where_only_the_uniform_counts():
    torch.testing.assert_close(rebalancing_weights((random(25)).abs(), BINS, uniform_share=1.0), torch.ones(25))


def test_the_loss_is_the_weighted_cross_entropy(agree):
    numbers, shares = soft_encode(12 * random(7, 2), BINS)
    weights = random(25).abs()

    def loss(logits):
        return color_cross_entropy(logits, numbers, shares, weights).sum()

    def reference(logits):
        total = 0.0
        for row, z in zip(logits, dense(numbers, shares, 25).double()):
            probabilities = row.exp() / row.exp().sum()
            total = total - weights[z.argmax()] * (z * probabilities.log()).sum()
        return total

    agree(loss, reference, random(7, 25))


def test_a_loss_by_hand():
    loss = color_cross_entropy(
        torch.tensor([[0.0, math.log(3), -math.inf]]), torch.tensor([[1, 0]]), torch.tensor([[0.8, 0.2]]), torch.tensor([5.0, 2.0, 9.0])
    )  # fmt: skip
    assert loss.item() == pytest.approx(-2 * (0.8 * math.log(0.75) + 0.2 * math.log(0.25)))


@pytest.mark.parametrize("temperature", [0.38, 1.0])
def test_the_annealed_mean(temperature):
    logits = 2 * random(2, 3, 25)
    probabilities = logits.softmax(dim=-1)
    powers = (probabilities.log() / temperature).exp()
    expected = (powers / powers.sum(dim=-1, keepdim=True)) @ BINS
    torch.testing.assert_close(annealed_mean(logits, BINS, temperature), expected, rtol=1e-4, atol=1e-4)


def test_cold_the_annealed_mean_is_the_likeliest_bin():
    logits = 2 * random(6, 25)
    torch.testing.assert_close(annealed_mean(logits, BINS, 1e-3), BINS[logits.argmax(dim=1)])
