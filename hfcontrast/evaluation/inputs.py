"""Inputs of an evaluated model: rows of any data set, images from its processor, texts from its tokenizer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from ..data.captions import control_tokens, without_control
from ..data.sources import Rows, rows_of
from ..data.subsets import LIMIT, drawn_rows
from ..encoders.families import family_of
from ..encoders.features import feature_size
from ..encoders.two_towers import text_features
from ..errors import DataError
from ..nn.distributed import rank, world_size

_NO_LIMIT = 1_000_000  # tokenizers that know no limit of their own state an astronomical one


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; every module's own mode comes back, after an error too."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def as_rows(
    data: Rows | Dataset | IterableDataset,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    caption_column: str | None = None,
    captioned: bool = False,
) -> Rows:
    """Rows of a data set that is open already; arguments as in ``hfcontrast.data.load_rows``.

    Args:
        data: A ``datasets`` data set, map-style or streaming; ``Rows`` stay as they are, and the columns are theirs.

    Raises:
        DataError: A column does not exist or holds something else.
    """
    if isinstance(data, Rows):
        if captioned and data.captions is None:
            raise DataError(f"{data.description} was opened without its captions: load_rows(..., captioned=True)")
        return data
    description = "the data set" if data.split is None else f"the data set (split {data.split})"
    return rows_of(
        data,
        None if isinstance(data, IterableDataset) else len(data),
        description,
        image_column=image_column,
        label_column=label_column,
        caption_column=caption_column,
        captioned=captioned,
    )


def share_out(rows: Rows, limit: int | None = None, every_class: bool = False) -> Rows:
    """This process's share of the rows, dealt out in turn as ``join_processes`` collects them.

    Args:
        rows: The rows; all of them where only one process runs.
        limit: How many are used at most, over all processes: drawn from the data (see ``hfcontrast.data.subsets``), of each class in
            proportion where labels are known beforehand; the first ones of a stream whose length is not known, or whose files are elsewhere.
        every_class: Whether at least one of each class is drawn, as far as the limit allows.
    """
    drawn = None
    if limit is not None and (rows.num_rows or 0) > limit and not (rows.streaming and rows.remote):
        places = np.fromiter(rows.places(), dtype=np.int64, count=rows.num_rows)
        drawn = drawn_rows(places, limit, LIMIT, rows.class_numbers(), every_class)[rank() :: world_size()]
    if world_size() > 1:  # what is said of these rows, each process says of its own
        rows = replace(rows, description=f"{rows.description}, rows of process {rank() + 1} of {world_size()}")
    if drawn is not None:
        own = frozenset(drawn.tolist())
        return rows.where(own.__contains__, max(own, default=0) + 1) if rows.streaming else rows.select(drawn)
    if rows.streaming:
        if limit is None and world_size() == 1:
            return rows
        return rows.where(lambda i: i % world_size() == rank(), limit)
    return rows if world_size() == 1 else rows.select(range(rank(), rows.num_rows, world_size()))


def image_transform(processor: Any) -> Callable[[list[Image.Image]], Tensor]:
    """From images (see ``ImageReader.image``) to (N, C, H, W) pixel values, as the model's own processor prepares them.

    Of a processor that makes tokens of colors (ImageGPT's) the pixels that it would make them of.

    Args:
        processor: An image processor, or a processor that has one.
    """
    return partial(_prepare, getattr(processor, "image_processor", processor))


def blank_image(channels: int = 3, side: int = 64) -> Any:
    """A black image as ``ImageReader.image`` gives it."""
    return Image.new("RGB", (side, side)) if channels == 3 else np.zeros((side, side, channels), dtype=np.uint8)


def _prepare(processor: Any, images: list[Any]) -> Tensor:
    pixels: dict[str, Any] = {"do_color_quantize": False} if hasattr(processor, "do_color_quantize") else {}
    given: Any = images
    if images and isinstance(images[0], np.ndarray):  # channels that are no colors
        given = [torch.from_numpy(image).permute(2, 0, 1) for image in images]
        pixels = {"input_data_format": "channels_first"}
    try:
        return processor(images=given, return_tensors="pt", **pixels).pixel_values
    except ValueError as error:
        raise DataError(f"{type(processor).__name__} makes no batch of these images: {error}") from error


def tokenize(
    model: PreTrainedModel, tokenizer: Any, texts: Sequence[str], cut: set[str] | None = None
) -> dict[str, Tensor]:
    """Tokens as the model's text tower was trained on them, on its device.

    What is longer than the tower takes is cut off; control tokens within a text are text. Models of the SigLIP family were
    trained with every text padded to the full length, which changes their features; all others are padded to the longest text
    of the batch, on the right whatever the tokenizer says: on the left, a text's positions would depend on the others.

    Args:
        model: A model with two towers.
        tokenizer: Its tokenizer, or a processor that has one.
        texts: The texts.
        cut: Is given those that were cut off.

    Returns:
        ``input_ids`` (N, T) and, where the tokenizer makes one, ``attention_mask`` (N, T).
    """
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    controls, full = control_tokens(tokenizer), family_of(model).pads_texts
    plain = [without_control(text, controls) for text in texts]
    encoded = tokenizer(
        plain,
        split_special_tokens=True,
        truncation=True,
        max_length=_max_length(model, tokenizer),
        padding="max_length" if full else "longest",
        padding_side=None if full else "right",
        return_tensors="pt",
    )
    if cut is not None:
        cut.update(text for text, longer in zip(texts, _cut_off(tokenizer, plain, encoded)) if longer)
    device = next(model.parameters()).device
    return {name: encoded[name].to(device) for name in ("input_ids", "attention_mask") if name in encoded}


def _cut_off(tokenizer: Any, texts: list[str], encoded: Any) -> list[bool]:
    """Which of the texts have more tokens than were taken of them."""
    if encoded.encodings is not None:
        return [bool(one.overflowing) for one in encoded.encodings]
    whole = tokenizer(
        texts, split_special_tokens=True, verbose=False
    ).input_ids  # of tokenizers in Python, which do not say it
    return [len(tokens) > encoded["input_ids"].shape[1] for tokens in whole]


def _max_length(model: PreTrainedModel, tokenizer: Any) -> int:
    text_config = getattr(model.config, "text_config", None)
    limits = (getattr(text_config, "max_position_embeddings", None), tokenizer.model_max_length)
    return min((limit for limit in limits if limit and limit < _NO_LIMIT), default=77)


def text_embeddings(
    model: PreTrainedModel,
    tokenizer: Any,
    texts: Sequence[str],
    batch_size: int = 256,
    cut: set[str] | None = None,
) -> Tensor:
    """Projected features of texts, not normalized; equal texts are encoded once and have equal features.

    Args:
        model: A model with two towers; its training mode is restored afterwards.
        tokenizer: Its tokenizer, or a processor that has one.
        texts: N texts, in any order.
        batch_size: Texts encoded at once.
        cut: Is given those that are longer than the model takes, and were cut off.

    Returns:
        (N, D) float32 on the CPU.
    """
    different = list(dict.fromkeys(texts))
    if not different:
        return torch.zeros(0, feature_size(model))
    found = []
    with evaluating(model):
        for start in range(0, len(different), batch_size):
            tokens = tokenize(model, tokenizer, different[start : start + batch_size], cut)
            found.append(text_features(model, **tokens).float().cpu())
    place = {text: number for number, text in enumerate(different)}
    return torch.cat(found)[[place[text] for text in texts]]
