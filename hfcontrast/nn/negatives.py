"""Negatives out of a memory bank: which images they are, and their inner products with the queries."""

import torch
from torch import Tensor

from .random import hash_numbers

# Elements of gathered rows held at a time: 16 MiB of float32, which is about what a CPU's cache takes; on an accelerator
# 256 MiB, so that it has work for long enough.
PIECE = 1 << 22
ACCELERATOR_PIECE = 1 << 26


def sample_others(index: Tensor, count: int, total: int, *key: int) -> Tensor:
    """Draws other images for each image: uniformly, with replacement, never the image itself.

    Whole numbers of 63 bits modulo the number of images, so that data sets of any size are drawn from evenly.

    Args:
        index: (B,) int64, the images' positions in their data set, in [0, total).
        count: Draws for each.
        total: Images in the data set.
        key: What else the draws depend on: ``progress.seed``, ``progress.step``, and a number for what they are used for.

    Returns:
        (B, count) int64 in [0, total), a function of the image and the key alone.

    Raises:
        ValueError: There is no other image.
    """
    if total < 2:
        raise ValueError(f"negatives are drawn from the other images, and the data set has {total} in all")
    own = index.unsqueeze(1)
    numbers = hash_numbers(*key, own, torch.arange(count, device=index.device)) & 0x7FFFFFFFFFFFFFFF
    others = numbers.remainder_(total - 1)
    return others.add_(others >= own)  # the numbers from one's own on move up by one


def chosen_products(queries: Tensor, rows: Tensor, chosen: Tensor) -> Tensor:
    """Inner products of each image's queries with the rows chosen for that image.

    The chosen rows, B x M x D numbers, are never held together: they are gathered in pieces, and again in the backward
    pass. Where the products with all rows take less room than that, they are computed instead, as one matrix product.

    Args:
        queries: (B, Q, D), Q queries for each image.
        rows: (N, D); no gradient reaches them.
        chosen: (B, M) int64, in [0, N).

    Returns:
        (B, Q, M) in the precision of the queries, with or without autocast.
    """
    rows = rows.detach()
    with torch.autocast(queries.device.type, enabled=False):
        if len(rows) <= chosen.shape[1] * max(queries.shape[2] // 8, 1):
            products = queries @ rows.to(queries.dtype).T
            return products.gather(2, chosen.unsqueeze(1).expand(-1, queries.shape[1], -1))
        return _ChosenProducts.apply(queries, rows, chosen)


class _ChosenProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx, queries, rows, chosen):
        ctx.save_for_backward(rows, chosen)
        products = queries.new_empty(*queries.shape[:2], chosen.shape[1])
        for piece in _pieces(rows, chosen):
            torch.bmm(queries[piece], _gathered(rows, chosen[piece], queries.dtype).mT, out=products[piece])
        return products

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        rows, chosen = ctx.saved_tensors
        gradient = upstream.new_empty(*upstream.shape[:2], rows.shape[1])
        # The engine runs this under the caller's autocast, which would round the products to half precision.
        with torch.autocast(upstream.device.type, enabled=False):
            for piece in _pieces(rows, chosen):
                torch.bmm(upstream[piece], _gathered(rows, chosen[piece], upstream.dtype), out=gradient[piece])
        return gradient, None, None


def _pieces(rows: Tensor, chosen: Tensor) -> list[slice]:
    """Spans of images whose chosen rows are held together."""
    room = PIECE if rows.device.type == "cpu" else ACCELERATOR_PIECE
    step = max(1, room // max(chosen.shape[1] * rows.shape[1], 1))
    return [slice(start, start + step) for start in range(0, len(chosen), step)]


def _gathered(rows: Tensor, chosen: Tensor, dtype: torch.dtype) -> Tensor:
    return rows.index_select(0, chosen.flatten()).unflatten(0, chosen.shape).to(dtype)
