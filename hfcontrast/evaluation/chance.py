"""Scores of chance: what is right without looking at an image, as a row beside every table's figures."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .protocol import Chance
from .recall import Ranks


def of_classes(labels: Tensor, name: Callable[[int], str], top: int = 1) -> Chance | None:
    """The accuracy of always answering the class that most test images have, whichever the train images have.

    Args:
        labels: (M,) of the test images, below 0 where there is none.
        name: Gives the name of a class.
        top: How many classes may be named.

    Returns:
        Its answer is named where the classes do not have equally many test images. None where no image has a label.
    """
    classes, counts = labels[labels >= 0].unique(return_counts=True)
    if not len(classes):
        return None
    answered = counts.sort(descending=True, stable=True)
    share = float(answered.values[:top].sum()) / int(counts.sum())
    unequal = top == 1 and bool((counts != counts[0]).any())
    return Chance(share, name(int(classes[answered.indices[0]])) if unequal else None)


def of_retrieval(
    images: int, texts: int, image_of_pair: Tensor, text_of_pair: Tensor, ks: Sequence[int]
) -> dict[str, Chance]:
    """The expected recall of a random order of the gallery as it is, by the names of :func:`.recall.retrieval_recall`.

    Args:
        images: How many images there are.
        texts: How many texts.
        image_of_pair: (P,) the image of each pair.
        text_of_pair: (P,) its text; no pair occurs twice.
        ks: How many candidates may be named.
    """
    found: dict[str, Chance] = {}
    for name, queries, candidates in (
        ("image_to_text", image_of_pair, texts),
        ("text_to_image", text_of_pair, images),
    ):
        right = queries.unique(return_counts=True)[1]
        ranks = Ranks(torch.zeros_like(right), candidates - right, right)
        found |= {f"{name}_r{k}": Chance(float(ranks.found(k).mean())) for k in ks}
    return found
