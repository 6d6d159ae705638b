"""Tiles: the values and gradients of the whole matrix for any size of tiles, without holding that matrix."""

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import clip_loss, decoupled, info_nce, nt_xent, queue_info_nce, supcon, tiles, uniformity

LABELS = torch.arange(13) % 4
LOSSES = {
    "nt_xent": lambda z, t, tile: nt_xent(z, t, tile=tile),
    "decoupled": lambda z, t, tile: decoupled(z, t, tile=tile),
    "dclw": lambda z, t, tile: decoupled(z, t, 0.5, tile=tile),
    "supcon out": lambda z, t, tile: supcon(z, LABELS, t, "out", tile=tile),
    "supcon in": lambda z, t, tile: supcon(z, LABELS, t, "in", tile=tile),
    "info_nce": lambda z, t, tile: info_nce(z[:9, 0], z[:, 1], t, tile=tile),
    "queue": lambda z, t, tile: queue_info_nce(z[:4, 0], z[:4, 1], z[4:, 2], t, tile=tile),
    "clip": lambda z, t, tile: clip_loss(z[:, 0], z[:, 1], t, tile=tile),
    "uniformity": lambda z, t, tile: uniformity(z[:, 0], 1 / t, tile=tile),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("temperature", [0.005, 0.1, 1.5])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_tiles_do_not_matter(loss, temperature, dtype, tolerance):
    embeddings = torch.randn(13, 3, 6, dtype=dtype, requires_grad=True)
    whole = loss(embeddings, temperature, 1000)
    (whole_gradient,) = torch.autograd.grad(whole, embeddings)
    for tile in (1, 2, 5, 12, 38):
        tiled = loss(embeddings, temperature, tile)
        (gradient,) = torch.autograd.grad(tiled, embeddings)
        torch.testing.assert_close(tiled, whole, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            gradient, whole_gradient, rtol=tolerance, atol=tolerance * whole_gradient.abs().max()
        )


@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_the_gradients_are_the_derivatives(temperature):
    z = F.normalize(torch.randn(7, 3, dtype=torch.float64), dim=-1).requires_grad_()
    keys = F.normalize(torch.randn(5, 3, dtype=torch.float64), dim=-1).requires_grad_()
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: tiles.self_log_sums(z, temperature, tile=3), z)
    assert torch.autograd.gradcheck(lambda z, t: tiles.self_log_sums(z, t, tile=3), (z, t))
    assert torch.autograd.gradcheck(lambda z, k: tiles.cross_log_sums(z, k, temperature, True, tile=3), (z, keys))
    assert torch.autograd.gradcheck(lambda z, k, t: tiles.cross_log_sums(z, k, t, tile=3)[0], (z, keys, t))
    assert torch.autograd.gradcheck(lambda z, k: tiles.mean_log_sum(z, k, temperature, tile=3), (z, keys))
    assert torch.autograd.gradcheck(lambda z, k, t: tiles.mean_log_sum(z, k, t, tile=3), (z, keys, t))


def test_a_single_direction_asked_for_gets_its_gradient():
    z, keys = (F.normalize(torch.randn(n, 4), dim=-1).requires_grad_() for n in (6, 5))
    for direction in (0, 1):
        tiled, whole = (
            torch.autograd.grad(tiles.cross_log_sums(z, keys, 0.2, True, tile)[direction].sum(), (z, keys))
            for tile in (2, 10)
        )
        torch.testing.assert_close(tiled, whole)


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("tile, rows", [(3, 3), (10, 4)])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_a_mean_is_made_in_strips_of_whole_rows(temperature, tile, rows, wanted, monkeypatch):
    held, once = [], torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, **options: held.append(len(a)) or once(a, b, **options))
    monkeypatch.setattr(tiles, "STRIP", 4 * 7)
    given = [F.normalize(torch.randn(n, 4), dim=-1).requires_grad_(asked) for n, asked in zip((11, 7), wanted)]
    mean = tiles.mean_log_sum(*given, temperature, tile)
    # At most so many rows and elements at once; a second product only where the queries' gradient is asked for.
    assert max(held) == rows and len(held) == -(-11 // rows) * (2 if wanted[0] else 1)
    expected = tiles.cross_log_sums(*given, temperature)[0].mean()
    torch.testing.assert_close(mean, expected)
    asked = [vectors for vectors in given if vectors.requires_grad]
    if asked:
        found, whole = (torch.autograd.grad(3 * value, asked) for value in (mean, expected))
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tile", [1, 2, 100])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_a_vector_that_sees_none_gives_minus_infinity_and_no_gradient(tile, temperature):
    z = F.normalize(torch.randn(4, 3), dim=-1).requires_grad_()
    sums = tiles.self_log_sums(z, temperature, labels=torch.tensor([0, 1, 0, 2]), tile=tile)
    assert (sums == -torch.inf).tolist() == [False, True, False, True]
    (gradient,) = torch.autograd.grad(sums[[0, 2]].sum(), z)
    assert (gradient[[0, 2]] != 0).any() and torch.equal(gradient[[1, 3]], torch.zeros(2, 3))


@pytest.mark.parametrize("temperature", [1 / 40, 1 / 41])
def test_opposite_vectors_neither_overflow_nor_vanish(temperature):
    # Everything an anchor sees is opposite: the smallest logits there are, with and without a maximum subtracted.
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).requires_grad_()
    sums = tiles.self_log_sums(z, temperature, tile=1)
    torch.testing.assert_close(sums, torch.full((2,), -1 / temperature))
    (gradient,) = torch.autograd.grad(65536 * sums.sum(), z)
    torch.testing.assert_close(gradient[:, 0], torch.tensor([-2.0, 2.0]) * 65536 / temperature)


def test_large_matrices_are_tiled_by_themselves(monkeypatch):
    sizes = []
    once = tiles._tiles

    def watched(*args):
        for found in once(*args):
            sizes.append(found[-1].numel())
            yield found

    monkeypatch.setattr(tiles, "_tiles", watched)
    embeddings = torch.randn(40, 2, 4, requires_grad=True)
    whole = nt_xent(embeddings, 0.1)
    assert not sizes
    monkeypatch.setattr(tiles, "WHOLE", 1000)
    monkeypatch.setattr(tiles, "TILE", 32)
    loss = nt_xent(embeddings, 0.1)
    loss.backward()
    assert max(sizes) == 32 * 32 and len(sizes) == 2 * 6  # the upper triangle of 3 x 3 tiles, forward and backward
    torch.testing.assert_close(loss, whole)


def test_autocast_around_the_backward_pass_does_not_reach_it():
    gradients = []
    embeddings = torch.randn(20, 2, 64, requires_grad=True)
    for enabled in (False, True):
        loss = nt_xent(embeddings, 0.1, tile=16)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            gradients += torch.autograd.grad(loss, embeddings)
    assert torch.equal(*gradients)


def test_a_tile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="tile is 0, expected 1 row or more"):
        nt_xent(torch.randn(4, 2, 8), 0.1, tile=0)
    with pytest.raises(ValueError, match="tile is 0, expected 1 row or more"):
        info_nce(torch.randn(4, 8), torch.randn(4, 8), 0.1, tile=0)
