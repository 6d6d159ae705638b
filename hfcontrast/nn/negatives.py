"""Negatives from a memory bank: sampling their indices, and their inner products with the queries."""

import torch
from torch import Tensor

from .random import hash_numbers

# Elements of gathered rows at a time: 16 MiB of float32, about the size of a CPU's cache; on an accelerator 256 MiB, for enough
# work per kernel.
PIECE = 1 << 22
ACCELERATOR_PIECE = 1 << 26


def sample_others(index: Tensor, count: int, total: int, *key: int) -> Tensor:
    """Samples other images for each image: uniformly, with replacement, excluding the image itself.

    The indices are 63-bit integers modulo the number of images, uniform for data sets of any practical size.

    Args:
        index: (B,) int64, the images' positions in their data set, in [0, total).
        count: Samples for each.
        total: Number of images in the data set.
        key: Further keys of the random numbers: ``progress.seed``, ``progress.step``, and a number for their purpose.

    Returns:
        (B, count) int64 in [0, total), a function of the image and the key.

    Raises:
        ValueError: The data set has a single image.
    """
    if total < 2:
        raise ValueError(f"negatives are sampled from the other images, but the data set has {total} in total")
    own = index.unsqueeze(1)
    numbers = hash_numbers(*key, own, torch.arange(count, device=index.device)) & 0x7FFFFFFFFFFFFFFF
    others = numbers.remainder_(total - 1)
    return others.add_(others >= own)  # skip the image's own index


def chosen_products(queries: Tensor, rows: Tensor, chosen: Tensor) -> Tensor:
    """Inner products of each image's queries with rows selected for that image.

    The selected rows, B x M x D numbers, are gathered in chunks, and again in the backward pass, instead of being held in
    memory. If the products with all rows need less memory, they are computed instead, as one matrix product.

    Args:
        queries: (B, Q, D), Q queries for each image.
        rows: (N, D); no gradient reaches them.
        chosen: (B, M) int64, in [0, N).

    Returns:
        (B, Q, M) in the precision of the queries, regardless of autocast.
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
        # Autograd runs this under the caller's autocast, which would round the products to half precision.
        with torch.autocast(upstream.device.type, enabled=False):
            for piece in _pieces(rows, chosen):
                torch.bmm(upstream[piece], _gathered(rows, chosen[piece], upstream.dtype), out=gradient[piece])
        return gradient, None, None


def _pieces(rows: Tensor, chosen: Tensor) -> list[slice]:
    """Spans of images whose rows are gathered at a time."""
    room = PIECE if rows.device.type == "cpu" else ACCELERATOR_PIECE
    step = max(1, room // max(chosen.shape[1] * rows.shape[1], 1))
    return [slice(start, start + step) for start in range(0, len(chosen), step)]


def _gathered(rows: Tensor, chosen: Tensor, dtype: torch.dtype) -> Tensor:
    return rows.index_select(0, chosen.flatten()).unflatten(0, chosen.shape).to(dtype)
