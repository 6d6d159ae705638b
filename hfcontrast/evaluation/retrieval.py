"""Retrieval between images and texts, as on Flickr30k and COCO with several captions an image.

The definitions are those of Karpathy & Fei-Fei (2015, arXiv:1412.2306) and of all that follow them: from an image, its texts
are found when *any* of its captions is among the k most similar ones; from a text, when its one image is.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
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
from .chance import of_retrieval
from .counts import counted
from .features import join_processes
from .finite import finite
from .inputs import as_rows, evaluating, image_transform, share_out, text_embeddings
from .protocol import Chance
from .recall import REPEATED, UNIQUE, retrieval_recall, unique_pairs, unique_text_recall, unique_texts
from .zero_shot import require_text_tower

logger = logging.getLogger(__name__)

_WITHOUT = "images without captions"  # what is known of rows once it was said

CaptionBatches = Callable[[], Iterable[tuple[Tensor, list[list[str]]]]]


class Retrieval:
    """Evaluates models with two towers on the same images and captions again and again.

    Args:
        batches: Gives this process's share as batches of (pixel_values, the captions of each image): see ``caption_batches``.
        tokenizer: The model's tokenizer, or a processor that has one.
        ks: How many candidates may be named.
        batch_size: Texts encoded at once.

    Attributes:
        counts: ``images``, ``texts`` and, where some repeat, ``unique_texts`` of the last evaluation, over all processes; those with
            features that are not finite, which count as not found, are ``nonfinite_images`` and ``nonfinite_texts``, and texts that are
            longer than the model takes ``texts_cut_off``.
        uncaptioned: How many of the images have no caption that can be used.
        chance: What the recall of the last evaluation would be in a random order, by its names.
    """

    def __init__(self, batches: CaptionBatches, tokenizer: Any, ks: Sequence[int] = (1, 5, 10), batch_size: int = 256):
        self.batches = batches
        self.tokenizer = tokenizer
        self.ks = tuple(ks)
        self.batch_size = batch_size
        self.counts: dict[str, int] = {}
        self.uncaptioned = self._cut_off = 0
        self.chance: dict[str, Chance] = {}

    def __call__(self, model: PreTrainedModel) -> dict[str, float]:
        """The scores of :func:`.recall.retrieval_recall`; every process must call it.

        Where more than 5 % of the captions read like another one, those of :func:`.recall.unique_text_recall` stand beside, and
        their names end with ``_unique_texts``.

        Raises:
            HFContrastError: The model has no text tower.
            DataError: There is no image with a caption.
        """
        images, texts, owners, identity = self._embed(model)
        unique, repeated = unique_texts(identity)
        self.counts = {"images": len(images), "texts": len(texts)} | ({"unique_texts": unique} if repeated else {})
        lost = {"nonfinite_images": int((~finite(images)).sum()), "nonfinite_texts": int((~finite(texts)).sum())}
        lost["texts_cut_off"] = self._cut_off
        self.counts |= {name: count for name, count in lost.items() if count}
        try:
            scores = retrieval_recall(images, texts, owners, self.ks)
        except ValueError as error:
            raise DataError(f"there is no image with a caption to evaluate: {error}") from error
        own = (owners >= 0).nonzero()[:, 0]
        self.uncaptioned = len(images) - len(owners[own].unique())
        self.chance = of_retrieval(len(images), len(texts), owners[own], own, self.ks)
        if repeated > REPEATED:
            beside = unique_text_recall(images, texts, owners, identity, self.ks)
            scores |= {f"{name}{UNIQUE}": value for name, value in beside.items()}
            chance = of_retrieval(len(images), unique, *unique_pairs(owners, identity), self.ks)
            self.chance |= {f"{name}{UNIQUE}": value for name, value in chance.items()}
        return scores

    def embed(self, model: PreTrainedModel) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the images (N, D) and texts (M, D) of all processes, and each text's image (M,); on the CPU."""
        return self._embed(model)[:3]

    def _embed(self, model: PreTrainedModel) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        require_text_tower(model)
        parameter = next(model.parameters())
        features = [torch.zeros(0, feature_size(model))]
        captions: list[list[str]] = []
        with evaluating(model):
            for pixels, several in self.batches():
                features.append(encode(model, pixels.to(parameter.device, parameter.dtype)).float().cpu())
                captions += several
        every = [text for several in captions for text in several]
        cut: set[str] = set()
        texts = text_embeddings(model, self.tokenizer, every, self.batch_size, cut)
        self._cut_off = int(join_processes(torch.tensor([sum(text in cut for text in every)])).sum())
        identity = torch.tensor([_identity(text) for text in every], dtype=torch.long)
        images = join_processes(torch.cat(features))
        place = _places(len(captions))
        counts = torch.tensor([len(several) for several in captions], dtype=torch.long)
        owners = join_processes(place.repeat_interleave(counts))
        return images, join_processes(texts), owners, join_processes(identity)


def _identity(text: str) -> int:
    """A number that is the same for equal texts on all processes."""
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "big", signed=True)


def _places(count: int) -> Tensor:
    """Where ``join_processes`` puts the rows of this process."""
    owner = join_processes(torch.full((count,), rank()))
    return (owner == rank()).nonzero()[:, 0]


def caption_batches(
    rows: Rows, transform: Callable[[list], Tensor], batch_size: int
) -> Iterator[tuple[Tensor, list[list[str]]]]:
    """Images with their captions, in order; images that cannot be read are left out with their captions.

    Captions that are empty or not UTF-8 are left out; an image may then have none. One warning at the end of the first evaluation of these
    rows counts both.

    Args:
        rows: Rows that were opened with their captions.
        transform: Turns a list of RGB images into (B, C, H, W) pixel values.
        batch_size: Rows of a batch, before unreadable ones are left out.

    Yields:
        Pixel values (B, C, H, W) and the captions of each of the B images.
    """
    unreadable: dict[str, str] = {}
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
                unreadable[row_name(place, row["image"])] = str(error)
                continue
            captions.append(_usable(captions_of(row, rows.captions)))
            without += not captions[-1]
        if images:
            yield transform(images), captions
    new = [f"{name}: {cause}" for name, cause in unreadable.items() if name not in rows.unreadable]
    rows.unreadable.update(unreadable)
    if new:
        they = "it" if len(new) == 1 else "they"
        what = f"left out, as {they} cannot be read, e.g. {'; '.join(new[:3])}"
        logger.warning("%s: %s %s", rows.description, counted(len(new), "images"), what)
    if without and rows.known.get(_WITHOUT) != str(without):
        rows.known[_WITHOUT] = str(without)
        has = "has" if without == 1 else "have"
        logger.warning("%s: %s %s no usable caption", rows.description, counted(without, "images"), has)


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
        See :meth:`Retrieval.__call__`.

    Raises:
        HFContrastError: The model has no text tower.
        DataError: There is no column of captions; the message names those that there are.
    """
    require_text_tower(model)
    rows = as_rows(data, image_column=image_column, caption_column=caption_column, captioned=True)
    mine, transform = share_out(rows, limit), image_transform(processor)
    return Retrieval(lambda: caption_batches(mine, transform, batch_size), processor, ks)(model)
