"""Log-sum-exps over the rows of a similarity matrix, computed in tiles so that the matrix is never held in memory.

A loss that compares a sample with all others is a few sums over N vectors plus these log-sum-exps; only they need the
N x N matrix. Small matrices are computed whole, and autograd differentiates them; large ones in tiles, which are
recomputed in the backward pass, with the same values and gradients. Where the matrix is symmetric, each pair of tiles is
computed once and used in both directions; where only the mean over all rows is needed, strips of whole rows are
computed, and nothing is recomputed.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# On a CPU: a tile of 1 MiB stays in the core's cache, which pays even where memory does not matter.
WHOLE = 1 << 19  # elements up to which the matrix is computed whole: 2 MiB in float32
TILE = 512
STRIP = 1 << 22  # elements of a strip of rows: 16 MiB
# On a GPU: enough work to fill it, 64 MiB.
ACCELERATOR_WHOLE = 1 << 22
ACCELERATOR_TILE = 4096
ACCELERATOR_STRIP = 1 << 24

# Up to this size of the logits neither exp(x) nor a product of two of its powers leaves float32's range, so no maximum
# has to be subtracted, and one exponential serves the rows and the columns of a tile.
SAFE_EXPONENT = 40.0


def self_log_sums(
    vectors: Tensor,
    temperature: float | Tensor,
    group: int = 1,
    labels: Tensor | None = None,
    tile: int | None = None,
) -> Tensor:
    """For each vector, log sum_k exp(x_i . x_k / t) over the vectors k of other groups (and of its own label).

    Args:
        vectors: (N, D), of length at most 1.
        temperature: t > 0; a tensor gets a gradient.
        group: Number of consecutive vectors that form a group; 1 leaves out only the vector itself.
        labels: (N,), to sum only over vectors with the same label; None sums over all.
        tile: Rows and columns held at a time. None decides: the whole matrix up to half a million elements, above that
            tiles of 512 (on an accelerator 4M elements and 4096). A tile of N or more is the whole matrix.

    Returns:
        (N,); minus infinity, with a gradient of zero, for a vector whose sum is empty.

    Raises:
        ValueError: The tile is not positive.
    """
    tile = _tile(vectors, vectors, tile)
    if tile is not None:
        # Groups end where tiles end, so that only tiles on the diagonal have to be masked.
        tile = max(1, tile // group) * group
        safe = _is_safe(temperature)
        sums: Tensor = _LogSums.apply(vectors * temperature**-0.5, None, labels, group, tile, safe, False)[0]
        return sums
    logits = vectors @ vectors.T / temperature
    if group == 1:
        logits.fill_diagonal_(-torch.inf)
    else:
        logits = logits.masked_fill(_same_group(len(vectors), group, vectors.device), -torch.inf)
    if labels is not None:
        logits = logits.masked_fill(labels[:, None] != labels, -torch.inf)
    return logits.logsumexp(dim=1)


def cross_log_sums(
    queries: Tensor, keys: Tensor, temperature: float | Tensor, columns: bool = False, tile: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """For each query log sum_j exp(q_i . k_j / t), and with ``columns`` for each key log sum_i exp(q_i . k_j / t).

    Args:
        queries: (N, D), of length at most 1.
        keys: (M, D), of length at most 1.
        temperature: t > 0; a tensor gets a gradient.
        columns: Whether the sums over the queries are computed too.
        tile: As in :func:`self_log_sums`.

    Returns:
        (N,), and (M,) or None.

    Raises:
        ValueError: The tile is not positive.
    """
    tile = _tile(queries, keys, tile)
    if tile is not None:
        sums: tuple[Tensor, Tensor | None]
        sums = _LogSums.apply(queries / temperature, keys, None, 1, tile, _is_safe(temperature), columns)
        return sums
    logits = queries @ keys.T / temperature
    return logits.logsumexp(dim=1), logits.logsumexp(dim=0) if columns else None


def mean_log_sum(queries: Tensor, keys: Tensor, temperature: float | Tensor, tile: int | None = None) -> Tensor:
    """The mean over the queries of log sum_j exp(q_i . k_j / t), faster than by :func:`cross_log_sums`.

    The gradient is known up to a factor as soon as the sum of a row is, so it is computed in the forward pass.

    Args:
        queries: (N, D), of length at most 1.
        keys: (M, D), of length at most 1.
        temperature: t > 0; a tensor gets a gradient.
        tile: Rows held at a time, with all of their columns, at most; None as in :func:`self_log_sums`. Strips of more than
            4M elements (16M on an accelerator) are made narrower.

    Returns:
        Scalar.

    Raises:
        ValueError: The tile is not positive.
    """
    tile = _tile(queries, keys, tile)
    if tile is None:
        return (queries @ keys.T / temperature).logsumexp(dim=1).mean()
    strip = STRIP if queries.device.type == "cpu" else ACCELERATOR_STRIP
    rows = min(tile, max(1, strip // len(keys)))
    queries = queries / temperature
    wanted = tuple(torch.is_grad_enabled() and vectors.requires_grad for vectors in (queries, keys))
    mean: Tensor = _MeanLogSum.apply(queries, keys, rows, _is_safe(temperature), wanted)
    return mean


def _tile(queries: Tensor, keys: Tensor, tile: int | None) -> int | None:
    """The side of a tile, or None where the matrix is computed whole."""
    if tile is None:
        on_cpu = queries.device.type == "cpu"
        if len(queries) * len(keys) <= (WHOLE if on_cpu else ACCELERATOR_WHOLE):
            return None
        tile = TILE if on_cpu else ACCELERATOR_TILE
    if tile < 1:
        raise ValueError(f"tile is {tile}, expected 1 row or more, or None to have it chosen")
    return None if tile >= max(len(queries), len(keys)) else tile


def _is_safe(temperature: float | Tensor) -> bool:
    """Whether logits of unit vectors are small; a tensor's value is not asked for, it may live on a GPU."""
    return not isinstance(temperature, Tensor) and temperature * SAFE_EXPONENT >= 1


def _same_group(size: int, group: int, device: torch.device) -> Tensor:
    """(size, size), true where row and column are of one group of consecutive vectors."""
    groups = torch.arange(size, device=device) // group
    return groups[:, None] == groups


def _tiles(
    queries: Tensor, keys: Tensor | None, labels: Tensor | None, group: int, tile: int
) -> Iterator[tuple[slice, slice, bool, Tensor]]:
    """Row span, column span, whether the two are the same vectors, logits; without keys the upper triangle only."""
    symmetric = keys is None
    others = queries if keys is None else keys
    for top in range(0, len(queries), tile):
        rows = slice(top, min(top + tile, len(queries)))
        for left in range(top if symmetric else 0, len(others), tile):
            columns = slice(left, min(left + tile, len(others)))
            logits = queries[rows] @ others[columns].T
            diagonal = symmetric and left == top
            if diagonal:
                logits.masked_fill_(_same_group(len(logits), group, logits.device), -torch.inf)
            if labels is not None:
                logits.masked_fill_(labels[rows, None] != labels[columns], -torch.inf)
            yield rows, columns, diagonal, logits


class _LogSums(torch.autograd.Function):
    """Running log-sum-exps over tiles. Without keys the matrix is symmetric and a tile serves its mirror image too."""

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        keys: Tensor | None,
        labels: Tensor | None,
        group: int,
        tile: int,
        safe: bool,
        columns: bool,
    ) -> tuple[Tensor, Tensor | None]:
        empty = 0.0 if safe else -torch.inf  # safe: plain sums of exponentials, their logarithm at the end
        row_sums = queries.new_full((len(queries),), empty)
        column_sums = row_sums if keys is None else keys.new_full((len(keys),), empty) if columns else None
        for rows, across, diagonal, logits in _tiles(queries, keys, labels, group, tile):
            if safe:
                logits.exp_()
            for sums, span, dim in ((row_sums, rows, 1), (column_sums, across, 0)):
                if sums is None or (diagonal and dim == 0):
                    continue
                if safe:
                    sums[span] += logits.sum(dim)
                else:
                    sums[span] = torch.logaddexp(sums[span], logits.logsumexp(dim))
        column_sums = None if keys is None else column_sums
        if safe:
            row_sums.log_()
            if column_sums is not None:
                column_sums.log_()
        ctx.save_for_backward(queries, keys, labels, row_sums, column_sums)
        ctx.group, ctx.tile, ctx.safe = group, tile, safe
        return row_sums, column_sums

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, row_upstream: Tensor, column_upstream: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, labels, row_sums, column_sums = ctx.saved_tensors
        symmetric = keys is None
        others = queries if symmetric else keys
        if symmetric:  # the matrix is its own transpose, its columns' sums are its rows'
            column_sums, column_upstream = row_sums, row_upstream
        to_queries = torch.zeros_like(queries)
        to_keys = to_queries if symmetric else torch.zeros_like(keys) if ctx.needs_input_grad[1] else None
        weigh = _weigh_safely if ctx.safe else _weigh
        row_sums = row_sums.masked_fill(row_sums == -torch.inf, 0.0)
        column_sums = None if column_sums is None else column_sums.masked_fill(column_sums == -torch.inf, 0.0)
        # The engine runs this under the caller's autocast, which would round the products to half precision.
        with torch.autocast(queries.device.type, enabled=False):
            for rows, across, diagonal, logits in _tiles(queries, keys, labels, ctx.group, ctx.tile):
                by_row = row_upstream[rows, None], row_sums[rows, None]
                by_column = None if column_sums is None else (column_upstream[across], column_sums[across])
                weights = weigh(logits, by_row, by_column)
                to_queries[rows].addmm_(weights, others[across])
                if to_keys is not None and not diagonal:
                    to_keys[across].addmm_(weights.T, queries[rows])
        return to_queries, None if symmetric else to_keys, None, None, None, None, None


def _weigh(logits: Tensor, by_row: tuple[Tensor, Tensor], by_column: tuple[Tensor, Tensor] | None) -> Tensor:
    """Gradient of the logits: upstream times softmax, along the rows and, where there are any, the columns."""
    upstream, sums = by_row
    weights = (logits - sums).exp_().mul_(upstream)
    if by_column is not None:
        upstream, sums = by_column
        weights += logits.sub_(sums).exp_().mul_(upstream)
    return weights


def _weigh_safely(logits: Tensor, by_row: tuple[Tensor, Tensor], by_column: tuple[Tensor, Tensor] | None) -> Tensor:
    """The same with one exponential, for logits of at most SAFE_EXPONENT."""
    factors = by_row[0] * by_row[1].neg().exp()
    if by_column is not None:
        factors = factors + by_column[0] * by_column[1].neg().exp()
    return logits.exp_().mul_(factors)


class _MeanLogSum(torch.autograd.Function):
    """Value and gradient in one sweep over strips of rows."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, rows: int, safe: bool, wanted: tuple[bool, bool]) -> Tensor:
        to_queries = torch.empty_like(queries) if wanted[0] else None
        to_keys = torch.zeros_like(keys) if wanted[1] else None
        strip = queries.new_empty(min(rows, len(queries)), len(keys))
        total = queries.new_zeros(())
        for top in range(0, len(queries), rows):
            part = queries[top : top + rows]
            weights = torch.mm(part, keys.T, out=strip[: len(part)])
            if not safe:
                highest = weights.amax(dim=1, keepdim=True)
                weights -= highest
                total += highest.sum()
            sums = weights.exp_().sum(dim=1, keepdim=True)
            total += sums.log().sum()
            if to_queries is not None:
                torch.mm(weights, keys, out=to_queries[top : top + rows]).div_(sums)
            if to_keys is not None:
                to_keys.addmm_(weights.T, part / sums)
        ctx.save_for_backward(to_queries, to_keys)
        ctx.count = len(queries)
        return total / len(queries)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        upstream = upstream / ctx.count
        return *(None if gradient is None else gradient * upstream for gradient in ctx.saved_tensors), None, None, None
