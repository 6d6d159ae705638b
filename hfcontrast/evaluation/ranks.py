"""Ranks by cosine similarity: how many candidates score higher than the correct one, or as high."""

import torch
from torch import Tensor
from torch.nn import functional as F

TOLERANCE = 1e-6  # similarities that differ by less are rounding, and equal
_NOT_A_NUMBER = -2.0  # below every cosine, so that features that are not numbers find nothing and are found by nothing
CHUNK = 1 << 24  # similarities that are held at once


def unit(features: Tensor) -> Tensor:
    """(N, D) features as float32 rows of length 1; a row of zeros stays one."""
    return F.normalize(features.float(), dim=1)


def similarities(queries: Tensor, candidates: Tensor) -> Tensor:
    """(N, M) cosine similarities of (N, D) and (M, D) rows of length 1."""
    return (queries @ candidates.T).nan_to_num_(_NOT_A_NUMBER, _NOT_A_NUMBER, _NOT_A_NUMBER)


def chunk_rows(candidates: int) -> int:
    """Queries that are compared with all candidates at once."""
    return max(CHUNK // max(candidates, 1), 1)


def rivals(similarity: Tensor, own: Tensor, is_rival: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """How many candidates are more similar to a query than its own, and how many are equally similar.

    Args:
        similarity: (N, M).
        own: (N,) the similarity of each query's own candidate, out of the same matrix product: others round differently.
        is_rival: (N, M) which candidates count; None: all, less the own one.

    Returns:
        (N,) counts of better ones, and of equal ones. Where the own candidate or the query is not a number, all are better.
    """
    if (lost := own < -1.5).any():
        better, equal = rivals(similarity[~lost], own[~lost], None if is_rival is None else is_rival[~lost])
        counts = better.new_full((2, len(own)), similarity.shape[1])
        counts[:, ~lost] = torch.stack([better, equal])
        counts[1, lost] = 0
        return counts[0], counts[1]
    better = similarity > own[:, None] + TOLERANCE
    equal = (similarity - own[:, None]).abs() <= TOLERANCE
    if is_rival is None:
        return better.sum(dim=1), equal.sum(dim=1) - 1
    return (better & is_rival).sum(dim=1), (equal & is_rival).sum(dim=1)
