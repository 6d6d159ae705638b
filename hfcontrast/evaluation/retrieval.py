"""Retrieval between images and texts, as on Flickr30k and COCO with several captions an image.

The definitions are those of Karpathy & Fei-Fei (2015, arXiv:1412.2306) and of all that follow them: from an image, its texts
are found when *any* of its captions is among the k most similar ones; from a text, when its one image is.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from transformers import PreTrainedModel

from ..data.captions import UnusableCaption, captions_of, usable_captions
from ..data.decode import UnreadableImage
from ..data.row_reader import row_name
from ..data.sources import Rows
from ..data.stream_errors import read_batches
from ..encoders.features import encode, feature_size
from ..errors import DataError
from ..nn.distributed import rank
from .features import join_processes
from .finite import finite
from .inputs import as_rows, evaluating, image_transform, share_out, text_embeddings
from .ranks import chunk_rows, rivals, similarities, unit
from .zero_shot import require_text_tower

logger = logging.getLogger(__name__)

CaptionBatches = Callable[[], Iterable[tuple[Tensor, list[list[str]]]]]


def retrieval_recall(
    images: Tensor, texts: Tensor, image_of_text: Tensor, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Recall at k and the median rank, in both directions, by cosine similarity.

    A rank is 1, plus the wrong candidates that are more similar, plus half of those that are equally similar (to 1e-6):
    the mean over the orders in which equals could stand. So an encoder that maps everything to one point finds nothing
    among the first few. Features that are not numbers find nothing either.

    From an image, the captions of other images are the wrong candidates, and the best of its own counts. A caption that
    reads like one of another image's is wrong there like any other: the two are equal, and neither is found at k = 1. An
    image without captions has no right answer and is not asked for one, but it is among the candidates of the texts; a
    text without an image (-1), in the same way, is only a candidate.

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
    if len(image_of_text) != len(texts) or not (image_of_text >= 0).any():
        raise ValueError(f"retrieval needs images with captions: {len(texts)} texts, {len(images)} images, no pair")
    if int(image_of_text.max()) >= len(images):
        raise ValueError(f"a text belongs to image {int(image_of_text.max())}, but there are {len(images)}, from 0")
    images, texts = unit(images), unit(texts)
    scores: dict[str, float] = {}
    for name, ranks in (
        ("image_to_text", _ranks_of_images(images, texts, image_of_text)),
        ("text_to_image", _ranks_of_texts(images, texts, image_of_text)),
    ):
        scores |= {f"{name}_r{k}": float((ranks <= k).double().mean()) for k in ks}
        scores[f"{name}_median_rank"] = _median(ranks)
    return scores


def _ranks_of_images(images: Tensor, texts: Tensor, image_of_text: Tensor) -> Tensor:
    """The rank of each image's best caption; of the images that have one."""
    asked = image_of_text[image_of_text >= 0].unique()
    ranks = []
    for numbers in asked.split(chunk_rows(len(texts))):
        similarity = similarities(images[numbers], texts)
        mine = image_of_text == numbers[:, None]
        best = similarity.masked_fill(~mine, -torch.inf).amax(dim=1)
        better, equal = rivals(similarity, best, ~mine)
        ranks.append(1 + better + equal / 2)
    return torch.cat(ranks)


def _ranks_of_texts(images: Tensor, texts: Tensor, image_of_text: Tensor) -> Tensor:
    """The rank of each text's image; of the texts that have one."""
    asked = (image_of_text >= 0).nonzero()[:, 0]
    ranks = []
    for numbers in asked.split(chunk_rows(len(images))):
        similarity = similarities(texts[numbers], images)
        own = similarity.gather(1, image_of_text[numbers][:, None])[:, 0]
        better, equal = rivals(similarity, own)
        ranks.append(1 + better + equal / 2)
    return torch.cat(ranks)


def _median(ranks: Tensor) -> float:
    ordered = ranks.double().sort().values
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


class Retrieval:
    """Evaluates models with two towers on the same images and captions again and again.

    Args:
        batches: Gives this process's share as batches of (pixel_values, the captions of each image): see ``caption_batches``.
        tokenizer: The model's tokenizer, or a processor that has one.
        ks: How many candidates may be named.
        batch_size: Texts encoded at once.

    Attributes:
        counts: ``images`` and ``texts`` of the last evaluation; those with features that are not finite, which count as not found, are
            ``nonfinite_images`` and ``nonfinite_texts``.
    """

    def __init__(self, batches: CaptionBatches, tokenizer: Any, ks: Sequence[int] = (1, 5, 10), batch_size: int = 256):
        self.batches = batches
        self.tokenizer = tokenizer
        self.ks = tuple(ks)
        self.batch_size = batch_size
        self.counts: dict[str, int] = {}

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        """The scores of :func:`retrieval_recall`; every process must call it.

        Raises:
            HFContrastError: The model has no text tower.
            DataError: There is no image with a caption.
        """
        images, texts, owners = self.embed(model)
        self.counts = {"images": len(images), "texts": len(texts)}
        lost = {"nonfinite_images": int((~finite(images)).sum()), "nonfinite_texts": int((~finite(texts)).sum())}
        self.counts |= {name: count for name, count in lost.items() if count}
        try:
            return retrieval_recall(images, texts, owners, self.ks)
        except ValueError as error:
            raise DataError(f"there is no image with a caption to evaluate: {error}") from error

    def embed(self, model: PreTrainedModel) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the images (N, D) and texts (M, D) of all processes, and each text's image (M,); on the CPU."""
        require_text_tower(model)
        parameter = next(model.parameters())
        features = [torch.zeros(0, feature_size(model))]
        captions: list[list[str]] = []
        with evaluating(model):
            for pixels, several in self.batches():
                features.append(encode(model, pixels.to(parameter.device, parameter.dtype)).float().cpu())
                captions += several
        texts = text_embeddings(
            model, self.tokenizer, [text for several in captions for text in several], self.batch_size
        )
        images = join_processes(torch.cat(features))
        place = _places(len(captions))
        counts = torch.tensor([len(several) for several in captions], dtype=torch.long)
        return images, join_processes(texts), join_processes(place.repeat_interleave(counts))


def _places(count: int) -> Tensor:
    """Where ``join_processes`` puts the rows of this process."""
    owner = join_processes(torch.full((count,), rank()))
    return (owner == rank()).nonzero()[:, 0]


def caption_batches(
    rows: Rows, transform: Callable[[list], Tensor], batch_size: int
) -> Iterator[tuple[Tensor, list[list[str]]]]:
    """Images with their captions, in order; images that cannot be read are left out with their captions.

    Captions that are empty or not UTF-8 are left out; an image may then have none. One warning at the end counts both.

    Args:
        rows: Rows that were opened with their captions.
        transform: Turns a list of RGB images into (B, C, H, W) pixel values.
        batch_size: Rows of a batch, before unreadable ones are left out.

    Yields:
        Pixel values (B, C, H, W) and the captions of each of the B images.
    """
    unreadable: list[str] = []
    without = 0
    names = rows.dataset.column_names or list(rows.dataset.features)
    places = rows.places()
    for columns in read_batches(rows.dataset, batch_size, rows.description, rows.shard_files):
        images, captions = [], []
        for values in zip(*(columns[name] for name in names)):
            row, place = dict(zip(names, values)), next(places)
            try:
                images.append(rows.reader.image(row["image"]))
            except UnreadableImage as error:
                unreadable.append(f"{row_name(place, row['image'])}: {error}")
                continue
            captions.append(_usable(captions_of(row, rows.captions)))
            without += not captions[-1]
        if images:
            yield transform(images), captions
    for count, what in (
        (len(unreadable), f"images left out, as they cannot be read, e.g. {'; '.join(unreadable[:3])}"),
        (without, "images have no usable caption"),
    ):
        if count:
            logger.warning("%s: %d %s", rows.description, count, what)


def _usable(value: Any) -> list[str]:
    try:
        return usable_captions(value)
    except UnusableCaption:
        return []


def retrieve_rows(
    model: PreTrainedModel,
    processor: Any,
    data: Rows | Dataset | IterableDataset,
    *,
    image_column: str | None = None,
    caption_column: str | None = None,
    ks: Sequence[int] = (1, 5, 10),
    batch_size: int = 64,
    limit: int | None = None,
) -> dict[str, float]:
    """Retrieval on a data set with one or several captions an image; shared out where several processes run.

    Args:
        model: Any model with two towers; its training mode is restored afterwards.
        processor: Its processor: image processor and tokenizer.
        data: The images; ``Rows`` must have been opened with their captions.
        image_column: Column with the images; None: ``image``, else the first one.
        caption_column: Column with texts or lists of texts; None: ``caption``, ``captions``, ``text`` ...
        ks: How many candidates may be named.
        batch_size: Images encoded at once.
        limit: Images at most; see ``share_out``.

    Returns:
        See :func:`retrieval_recall`.

    Raises:
        HFContrastError: The model has no text tower.
        DataError: There is no column of captions; the message names those that there are.
    """
    require_text_tower(model)
    rows = as_rows(data, image_column=image_column, caption_column=caption_column, captioned=True)
    mine, transform = share_out(rows, limit), image_transform(processor)
    return Retrieval(lambda: caption_batches(mine, transform, batch_size), processor, ks)(model)
