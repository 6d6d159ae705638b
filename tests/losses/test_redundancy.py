"""Barlow Twins and VICReg against their formulas with the D x D matrices written out, for N above and below D."""

import pytest
import torch

from hfcontrast.losses import barlow_twins, gram, vicreg

SHAPES = [(2, 3), (3, 2), (4, 4), (6, 17), (17, 6), (5, 40)]  # N, D


def barlow_reference(first, second, weight, eps=1e-5):
    samples, width = first.shape
    a, b = ((x - x.mean(0)) / (x.var(0, unbiased=False) + eps).sqrt() for x in (first, second))
    loss = first.new_zeros(())
    for i in range(width):
        for j in range(width):
            entry = (a[:, i] * b[:, j]).sum() / samples
            loss = loss + ((1 - entry) ** 2 if i == j else weight * entry**2)
    return loss


def vicreg_reference(first, second, invariance, variance, covariance, eps=1e-4):
    samples, width = first.shape
    loss = invariance * sum((first[n] - second[n]).square().mean() for n in range(samples)) / samples
    for x in (first, second):
        matrix = (x - x.mean(0)).T @ (x - x.mean(0)) / (samples - 1)
        loss = loss + variance / 2 * sum((1 - (matrix[i, i] + eps).sqrt()).clamp(min=0) for i in range(width)) / width
        off = sum(matrix[i, j] ** 2 for i in range(width) for j in range(width) if i != j)
        loss = loss + covariance * off / width
    return loss


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight", [0.005, 1])
def test_barlow_twins_is_the_formula(shape, weight, agree):
    first = torch.randn(shape)
    agree(
        lambda x, y: barlow_twins(x, y, weight),
        lambda x, y: barlow_reference(x, y, weight),
        first,
        first + torch.randn(shape),
        atol=2e-3,
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weights", [(25, 25, 1), (1.0, 0.5, 0), (0, 0, 3)])
def test_vicreg_is_the_formula(shape, weights, agree):
    first = 0.7 * torch.randn(shape)
    agree(
        lambda x, y: vicreg(x, y, *weights),
        lambda x, y: vicreg_reference(x, y, *weights),
        first,
        first + torch.randn(shape),
        atol=2e-3,
    )


def test_fewer_samples_than_dimensions_go_through_the_gram_matrices():
    products = []

    class Watched(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if function is torch.Tensor.matmul:
                products.append(tuple(result.shape))
            return result

    with Watched():
        for loss in (barlow_twins, vicreg):
            loss(torch.randn(8, 50), torch.randn(8, 50))
            loss(torch.randn(50, 8), torch.randn(50, 8))
    assert products and set(products) == {(8, 8)}


def test_values_computed_by_hand():
    # Two samples, dimensions that are +-1: the normalized views are the signs. Equal views, both dimensions the same
    # sign: C is all ones, so the diagonal costs 0 and each of the two entries off it 0.5. The opposite second view:
    # diagonal (1 + 1)^2 each.
    x = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    assert barlow_twins(x, x, 0.5, eps=0).item() == pytest.approx(1.0)
    assert barlow_twins(x, -x, 0.5, eps=0).item() == pytest.approx(9.0)
    # Variance and covariance 2 with N - 1: no variance below 1; 1 / 2 * (4 + 4) for each view. (x - (-x))^2 = 4.
    assert vicreg(x, x).item() == pytest.approx(8.0)
    assert vicreg(x, -x).item() == pytest.approx(25 * 4 + 8.0)
    # Half the size: variances 0.5, standard deviations 0.7071.
    assert vicreg(x / 2, x / 2, 0, 1, 0, eps=0).item() == pytest.approx(1 - 0.707107, abs=1e-6)


@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_identical_embeddings(shape):
    x = torch.ones(shape, requires_grad=True)
    barlow, vic = barlow_twins(x, x), vicreg(x, x)
    assert barlow.item() == pytest.approx(shape[1])
    assert vic.item() == pytest.approx(25 * 0.99)
    (barlow + vic).backward()
    assert torch.isfinite(x.grad).all()


def test_the_off_diagonal_survives_the_subtraction():
    # Nearly decorrelated: what is left after subtracting the diagonal is tiny, and still the right number.
    x = torch.linalg.qr(torch.randn(300, 40, dtype=torch.float64) - 0.5)[0] * 300**0.5
    x = x - x.mean(0)
    single = barlow_twins(x.float(), x.float(), 1.0).item()
    assert single == pytest.approx(barlow_reference(x, x, 1.0).item(), abs=1e-4)


@pytest.mark.parametrize("loss", [barlow_twins, vicreg])
def test_what_has_no_statistics_is_refused(loss):
    with pytest.raises(ValueError, match=r"at least 2 samples .* \(1, 8\)"):
        loss(torch.zeros(1, 8), torch.zeros(1, 8))
    with pytest.raises(ValueError, match=r"\(4, 8\) and \(4, 7\)"):
        loss(torch.zeros(4, 8), torch.zeros(4, 7))


def test_both_ways_to_the_norm_agree():
    a, b = torch.randn(2, 5, 9, dtype=torch.float64)
    for x, y in ((a, b), (a, a), (a[:, :3], b[:, :3])):
        torch.testing.assert_close(gram.squared_norm(x, y), (x.T @ y).square().sum())
