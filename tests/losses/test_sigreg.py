"""SIGReg against the paper's algorithm written out, and against the exact integral."""

import math
import sys

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import sigreg


def directions(dim, count):
    return F.normalize(torch.randn(dim, count, dtype=torch.float64), dim=0)


def reference(embeddings, directions, points=17, reach=5.0):
    """Algorithm 1: complex waves at all points, trapezoidal rule; one statistic for each view and direction, averaged."""
    t = torch.linspace(-reach, reach, points, dtype=embeddings.dtype)
    normal = torch.exp(-0.5 * t**2)
    statistics = []
    for view in embeddings.unflatten(0, (len(embeddings), 1)).flatten(1, -2).unbind(dim=1):
        waves = (1j * (view @ directions.to(view.dtype)).unsqueeze(2) * t).exp().mean(0)
        error = (waves - normal).abs().square() * normal
        statistics.append(torch.trapezoid(error, t, dim=1) * len(view))
    return torch.stack(statistics).mean()


def exact(embeddings, directions):
    """The integral over all t in closed form: a sum of Gaussians of the distances between the projections."""
    total = 0.0
    for x in (embeddings @ directions).T:
        pairs = (-0.5 * (x[:, None] - x[None, :]).square()).exp().mean() * math.sqrt(2 * math.pi)
        own = (-0.25 * x.square()).exp().mean() * 2 * math.sqrt(math.pi)
        total += len(x) * (pairs - own + math.sqrt(2 * math.pi / 3))
    return total / directions.shape[1]


@pytest.mark.parametrize("shape", [(1, 2), (7, 3), (5, 4, 6), (4, 2, 3, 5)])
@pytest.mark.parametrize("points, reach", [(17, 5.0), (3, 1.0), (41, 3)])
def test_it_is_the_algorithm(shape, points, reach, agree):
    slices = directions(shape[-1], 9)
    agree(
        lambda z: sigreg(z, slices.to(torch.float64 if z.dtype == torch.float64 else torch.float32), points, reach),
        lambda z: reference(z, slices, points, reach),
        torch.randn(shape),
    )


@pytest.mark.parametrize("spread, points", [(0.0, 17), (0.3, 17), (1.0, 17), (3.0, 101)])
def test_few_points_are_the_integral(spread, points):
    z = spread * torch.randn(40, 6, dtype=torch.float64) + 0.2
    slices = directions(6, 30)
    # What is left out beyond t = 5 is at most 40 * 4 * integral of exp(-t^2 / 2) from 5 on, about 1e-4.
    assert sigreg(z, slices, points).item() == pytest.approx(exact(z, slices).item(), rel=1e-4, abs=1e-4)


def test_values_computed_by_hand():
    # All zero: N * integral of (1 - e^(-t^2/2))^2 e^(-t^2/2) = N (sqrt(2 pi) - 2 sqrt(pi) + sqrt(2 pi / 3)) = 0.408923 N.
    assert sigreg(torch.zeros(8, 3), directions(3, 5).float()).item() == pytest.approx(8 * 0.408923, abs=1e-4)
    # Three points -1, 0, 1 and x = 0 alone: twice the middle of the rule's ends, (1 - e^(-1/2))^2 e^(-1/2) = 0.0939019.
    assert sigreg(torch.zeros(1, 1), torch.ones(1, 1), points=3, reach=1.0).item() == pytest.approx(0.0939019, abs=1e-6)


def test_normal_samples_are_what_it_likes_best():
    slices = directions(8, 64).float()
    z = torch.randn(512, 8)
    expected = math.sqrt(2 * math.pi) - math.sqrt(2 * math.pi / 3)
    normal = sigreg(z, slices)
    assert normal.item() == pytest.approx(expected, rel=0.35)
    line = z[:, :1].expand(-1, 8)  # each dimension is standard normal, but they are all the same
    cube = (torch.rand(512, 8) - 0.5) * 0.02  # nearly one point
    for other in (2 * z, 0.5 * z, z + 0.5, line, cube):
        assert sigreg(other, slices) > 5 * normal


def test_its_gradient_spreads_embeddings_that_have_collapsed():
    torch.manual_seed(0)
    z = (0.1 * torch.randn(256, 4)).requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        sigreg(z, directions(4, 16).float()).backward()
        optimizer.step()
    covariance = torch.cov(z.detach().T)
    torch.testing.assert_close(covariance, torch.eye(4), rtol=0, atol=0.2)
    assert z.detach().mean(dim=0).abs().max() < 0.1


@pytest.mark.parametrize("at_once", [1, 30, 10**6])
def test_chunks_do_not_matter(at_once, monkeypatch):
    z = torch.randn(23, 2, 4, requires_grad=True)
    slices = directions(4, 5).float()
    (expected,) = torch.autograd.grad(reference(z, slices), z)
    monkeypatch.setattr(sys.modules["hfcontrast.losses.sigreg"], "AT_ONCE", at_once)
    value = sigreg(z, slices)
    torch.testing.assert_close(value, reference(z, slices))
    torch.testing.assert_close(torch.autograd.grad(value, z)[0], expected, rtol=1e-4, atol=1e-6)


def test_parts_of_a_batch_add_up():
    z = torch.randn(10, 3, requires_grad=True)
    slices = directions(3, 6).float()
    whole = sigreg(z, slices)
    (expected,) = torch.autograd.grad(whole, z)
    seen = []
    sigreg(z[7:], slices, over_processes=lambda sums: seen.append(sums.detach()) or sums)
    part = sigreg(z[:7], slices, over_processes=lambda sums: sums + seen[0])  # the other three are on another process
    torch.testing.assert_close(part, whole)
    torch.testing.assert_close(torch.autograd.grad(part, z)[0][:7], expected[:7])


def test_embeddings_far_out_have_a_bounded_loss_and_gradient():
    z = torch.tensor([[1e4, -1e4], [0.0, 3e3]], requires_grad=True)
    value = sigreg(z, torch.eye(2))
    value.backward()
    assert torch.isfinite(z.grad).all() and 0 <= value <= 2 * 4 * math.sqrt(2 * math.pi)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"got \(4, 3\) and \(2, 5\)"):
        sigreg(torch.zeros(4, 3), torch.zeros(2, 5))
    for points in (1, 16):
        with pytest.raises(ValueError, match=f"points is {points}, expected an odd number"):
            sigreg(torch.zeros(4, 3), torch.zeros(3, 5), points=points)
