"""Negatives of a memory bank: drawn evenly and never the image itself; products equal to those with all rows."""

import pytest
import torch

from hfcontrast.nn import chosen_products, negatives, sample_others


def test_an_image_is_never_its_own_negative_and_all_others_are_drawn_evenly():
    index = torch.tensor([0, 3, 6])
    drawn = sample_others(index, 60_000, 7, 1, 2, 3)
    assert drawn.shape == (3, 60_000) and drawn.dtype == torch.long
    for own, numbers in zip(index.tolist(), drawn):
        counts = torch.bincount(numbers, minlength=7)
        assert len(counts) == 7 and counts[own] == 0
        others = counts[torch.arange(7) != own]
        assert (others - 10_000).abs().max() < 500  # more than five standard deviations (91)


def test_draws_are_a_function_of_image_and_key():
    one = sample_others(torch.tensor([5, 9]), 50, 1000, 0, 1, 2)
    assert torch.equal(one[1:], sample_others(torch.tensor([9]), 50, 1000, 0, 1, 2))
    for other in ((0, 1, 3), (0, 2, 2), (1, 1, 2)):
        assert not torch.equal(one, sample_others(torch.tensor([5, 9]), 50, 1000, *other))
    assert not torch.equal(one[0], one[1])


def test_data_sets_beyond_float32_are_drawn_from_wholly():
    drawn = sample_others(torch.tensor([0]), 1000, 10**12, 1)
    assert drawn.max() > 9.9e11 and drawn.min() < 1e10
    assert drawn.unique().numel() == 1000 and (drawn % 2).float().mean() == pytest.approx(0.5, abs=0.1)


def test_without_other_images_there_are_no_negatives():
    with pytest.raises(ValueError, match="1 in total"):
        sample_others(torch.tensor([0]), 4, 1)


@pytest.mark.parametrize("images, piece", [(20, None), (500, None), (500, 40)], ids=["whole", "gathered", "in pieces"])
def test_products_and_gradients_are_those_with_all_rows(images, piece, monkeypatch):
    if piece is not None:
        monkeypatch.setattr(negatives, "PIECE", piece)
    queries = torch.randn(7, 2, 8, requires_grad=True)
    rows, chosen = torch.randn(images, 8), torch.randint(images, (7, 5))
    products = chosen_products(queries, rows, chosen)
    expected = torch.stack([queries[i] @ rows[chosen[i]].T for i in range(7)])
    torch.testing.assert_close(products, expected)
    upstream = torch.randn_like(products)
    found, wanted = (torch.autograd.grad(value, queries, upstream)[0] for value in (products, expected))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("images", [20, 500])
def test_products_keep_their_precision_under_autocast(images):
    queries = torch.randn(3, 1, 8, requires_grad=True)
    rows, chosen = torch.randn(images, 8), torch.randint(images, (3, 5))
    expected = chosen_products(queries, rows, chosen)
    (wanted,) = torch.autograd.grad(expected.sum(), queries)
    with torch.autocast("cpu", torch.bfloat16):
        products = chosen_products(queries, rows, chosen)
        (found,) = torch.autograd.grad(products.sum(), queries)
    assert products.dtype == torch.float32
    assert torch.equal(products, expected) and torch.equal(found, wanted)


def test_no_gradient_reaches_the_rows():
    for images in (20, 500):
        rows = torch.randn(images, 8, requires_grad=True)
        queries = torch.randn(3, 1, 8, requires_grad=True)
        chosen_products(queries, rows, torch.randint(images, (3, 5))).sum().backward()
        assert rows.grad is None and queries.grad is not None
