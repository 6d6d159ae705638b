"""Recall between images and texts: ranks of right candidates, where ties count as the expectation over their orders."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .ranks import chunk_rows, rivals, similarities, unit

REPEATED = 0.05  # share of the captions that repeat, above which recall in the gallery of unique texts stands beside
UNIQUE = "_unique_texts"  # how the names of its figures end


class Ranks(NamedTuple):
    """Where the right candidates of each query stand.

    Attributes:
        better: (N,) wrong candidates that are more similar than the best right one.
        equal: (N,) wrong candidates that are as similar.
        right: (N,) right candidates that are as similar: the best one, and those that equal it.
    """

    better: Tensor
    equal: Tensor
    right: Tensor

    def found(self, k: int) -> Tensor:
        """(N,) the probability that a right candidate is among the first k, over the orders in which equals could stand.

        With one right candidate it is (k - better) / (equal + 1), limited to [0, 1].
        """
        places = (k - self.better).clamp(min=0).minimum(self.equal + 1).double()
        missed = torch.ones_like(places)
        for number in range(1, int(self.right.max()) + 1):  # C(equal, places) / C(equal + right, places)
            factor = (self.equal - places + number).clamp(min=0) / (self.equal + number)
            missed = torch.where(number <= self.right, missed * factor, missed)
        return 1 - missed

    def expected(self) -> Tensor:
        """(N,) the rank of the first right candidate, from 1, as the mean over these orders."""
        return self.better + (self.right + self.equal + 1).double() / (self.right + 1)


def retrieval_recall(
    images: Tensor, texts: Tensor, image_of_text: Tensor, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall at k and the median rank, in both directions, by cosine similarity.

    Candidates that are equally similar (to 1e-6) are taken to stand in a random order: a query counts with the probability that
    a right one is among the first k, and its rank is the mean over the orders. So an encoder that maps everything to one point
    finds what chance does, wherever the right candidates stand. Features that are not numbers find nothing.

    From an image, the captions of other images are the wrong candidates, and the best of its own counts. A caption that
    reads like one of another image's is wrong there like any other: of two that are equal, each is first in half of the orders
    (:func:`unique_text_recall` counts such texts as one). An image without captions has no right answer and is not asked for
    one, but it is among the candidates of the texts; a text without an image (-1), in the same way, is only a candidate.

    Args:
        images: (N, D), normalized or not.
        texts: (M, D), normalized or not.
        image_of_text: (M,) the number of each text's image, from 0 to N - 1, or -1.
        ks: How many candidates may be named.

    Returns:
        ``image_to_text_r1``, ... and ``text_to_image_r1``, ... in [0, 1]; ``image_to_text_median_rank`` and
        ``text_to_image_median_rank``, from 1.

    Raises:
        ValueError: No text has an image, or a text has one that is not there.
    """
    _check(images, texts, image_of_text)
    with_image = (image_of_text >= 0).nonzero()[:, 0]
    return _recall(images, texts, image_of_text[with_image], with_image, ks)


def unique_text_recall(
    images: Tensor, texts: Tensor, image_of_text: Tensor, identity: Tensor, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """:func:`retrieval_recall` where equal texts are one candidate, which belongs to all of their images.

    Args:
        images: (N, D), normalized or not.
        texts: (M, D), normalized or not.
        image_of_text: (M,) the number of each text's image, from 0 to N - 1, or -1.
        identity: (M,) a number for each text, equal for equal texts.
        ks: How many candidates may be named.

    Returns:
        The figures of :func:`retrieval_recall`.

    Raises:
        ValueError: No text has an image, or a text has one that is not there.
    """
    _check(images, texts, image_of_text)
    _, number = identity.unique(return_inverse=True)
    first = torch.full((int(number.max()) + 1,), len(texts)).scatter_reduce(0, number, torch.arange(len(texts)), "amin")
    return _recall(images, texts[first], *unique_pairs(image_of_text, identity), ks)


def unique_pairs(image_of_text: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
    """(P,) the image and (P,) the number, among the unique texts, of each different pair; arguments as in :func:`unique_text_recall`."""
    _, number = identity.unique(return_inverse=True)
    pairs = torch.stack([image_of_text, number], dim=1)[image_of_text >= 0].unique(dim=0)
    return pairs[:, 0], pairs[:, 1]


def unique_texts(identity: Tensor) -> tuple[int, float]:
    """How many of M texts are unique, and the share of those that read like another one.

    Args:
        identity: (M,) a number for each text, equal for equal texts.
    """
    _, counts = identity.unique(return_counts=True)
    return len(counts), float(counts[counts > 1].sum()) / max(len(identity), 1)


def _check(images: Tensor, texts: Tensor, image_of_text: Tensor) -> None:
    if len(image_of_text) != len(texts) or not (image_of_text >= 0).any():
        raise ValueError(f"retrieval needs images with captions: {len(texts)} texts, {len(images)} images, no pair")
    if int(image_of_text.max()) >= len(images):
        raise ValueError(f"a text belongs to image {int(image_of_text.max())}, but there are {len(images)}, from 0")


def _recall(
    images: Tensor, texts: Tensor, image_of_pair: Tensor, text_of_pair: Tensor, ks: Sequence[int]
) -> dict[str, float]:
    images, texts = unit(images), unit(texts)
    scores: dict[str, float] = {}
    for name, ranks in (
        ("image_to_text", ranks_of(images, texts, image_of_pair, text_of_pair)),
        ("text_to_image", ranks_of(texts, images, text_of_pair, image_of_pair)),
    ):
        scores |= {f"{name}_r{k}": float(ranks.found(k).mean()) for k in ks}
        scores[f"{name}_median_rank"] = _median(ranks.expected())
    return scores


def ranks_of(queries: Tensor, candidates: Tensor, query_of_pair: Tensor, candidate_of_pair: Tensor) -> Ranks:
    """The ranks of the queries that have a right candidate, in the order of the queries.

    Args:
        queries: (N, D) rows of length 1.
        candidates: (M, D) rows of length 1.
        query_of_pair: (P,) the query of each pair.
        candidate_of_pair: (P,) its right candidate; no pair occurs twice.
    """
    order = query_of_pair.argsort(stable=True)
    query_of_pair, candidate_of_pair = query_of_pair[order], candidate_of_pair[order]
    parts = []
    for numbers in query_of_pair.unique().split(chunk_rows(len(candidates))):
        first, last = torch.searchsorted(query_of_pair, numbers[0]), torch.searchsorted(query_of_pair, numbers[-1] + 1)
        row = torch.searchsorted(numbers, query_of_pair[first:last])
        similarity = similarities(queries[numbers], candidates)
        mine = torch.zeros_like(similarity, dtype=torch.bool)
        mine[row, candidate_of_pair[first:last]] = True
        best = similarity.masked_fill(~mine, -torch.inf).amax(dim=1)
        better, equal = rivals(similarity, best, ~mine)
        right = rivals(similarity, best, mine)[1].clamp(min=1)  # 0 where nothing is a number
        parts.append(Ranks(better, equal, right))
    return Ranks(*map(torch.cat, zip(*parts)))


def _median(ranks: Tensor) -> float:
    ordered = ranks.double().sort().values
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)
