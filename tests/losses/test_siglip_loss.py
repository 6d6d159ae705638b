"""SigLIP's loss against the paper's algorithm, its tiles against the whole matrix, and its edges."""

import math

import pytest
import torch
from torch.nn import functional as F

from hfcontrast.losses import siglip_loss


def plain(images, texts, scale, bias, first=0):
    """Algorithm 1 of the paper, a pair at a time."""
    total = 0.0
    for i in range(len(images)):
        for j in range(len(texts)):
            cosine = (F.normalize(images[i], dim=0) * F.normalize(texts[j], dim=0)).sum()
            sign = 1.0 if j == first + i else -1.0
            total = total - torch.nn.functional.logsigmoid(sign * (scale * cosine + bias))
    return total / len(images)


def leaves(rows, others, width, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(rows, width, generator=generator), torch.randn(others, width, generator=generator)]
    numbers = [torch.tensor(2.3), torch.tensor([-1.7])]
    return [part.to(dtype).requires_grad_() for part in (*parts, *numbers)]


@pytest.mark.parametrize("tile", [None, 1, 2, 3])
@pytest.mark.parametrize(("rows", "others", "first"), [(1, 1, 0), (4, 4, 0), (3, 7, 0), (3, 7, 2), (3, 7, 4)])
def test_value_and_gradients_are_the_papers(rows, others, first, tile):
    fast, slow = leaves(rows, others, 5, torch.float64), leaves(rows, others, 5, torch.float64)
    loss, expected = siglip_loss(*fast, first=first, tile=tile), plain(*slow, first=first)
    torch.testing.assert_close(loss, expected.squeeze())
    for a, b in zip(torch.autograd.grad(3 * loss, fast), torch.autograd.grad(3 * expected, slow), strict=True):
        torch.testing.assert_close(a, b)


def test_a_value_worked_out_by_hand():
    # Two pairs, orthogonal to each other; s = 2, b = -1: own logits 2 - 1, others 0 - 1.
    vectors = torch.eye(2)
    expected = 2 * math.log(1 + math.exp(-1)) + 2 * math.log(1 + math.exp(-1))
    assert siglip_loss(vectors, vectors, 2.0, -1.0).item() == pytest.approx(expected / 2, rel=1e-6)


def test_at_its_start_nearly_all_pairs_are_known_not_to_belong_together():
    images, texts = torch.randn(64, 128), torch.randn(64, 128)
    loss = siglip_loss(images, texts, 10.0, -10.0).item()
    assert 9 < loss < 11  # the own pair's -log sigmoid(-10); without the bias the others would add 63 log 2


def test_parts_of_a_batch_add_up_to_the_whole():
    images, texts, scale, bias = leaves(6, 6, 4, torch.float64)
    parts = [siglip_loss(images[i : i + 2], texts, scale, bias, first=i) for i in (0, 2, 4)]
    torch.testing.assert_close(sum(parts) / 3, siglip_loss(images, texts, scale, bias))


def test_edges_are_finite():
    for images in (torch.zeros(3, 4), torch.ones(3, 4), 1e30 * torch.ones(3, 4)):
        images.requires_grad_()
        loss = siglip_loss(images, images.detach(), 1000.0, -10.0)
        loss.backward()
        assert loss.isfinite() and images.grad.isfinite().all()


def test_half_precision_is_computed_in_full():
    images, texts = torch.randn(8, 16).bfloat16(), torch.randn(8, 16).bfloat16()
    loss = siglip_loss(images, texts, 10.0, -10.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, siglip_loss(images.float(), texts.float(), 10.0, -10.0))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(siglip_loss(images.float(), texts.float(), 10.0, -10.0), loss)


def test_wrong_shapes_are_explained():
    vectors = torch.randn(4, 3)
    with pytest.raises(ValueError, match="pairs images"):
        siglip_loss(vectors, torch.randn(4, 2), 1.0, 0.0)
    with pytest.raises(ValueError, match="cannot begin at number 1 of 4"):
        siglip_loss(vectors, vectors, 1.0, 0.0, first=1)
    with pytest.raises(ValueError, match="tile is 0"):
        siglip_loss(vectors, vectors, 1.0, 0.0, tile=0)
