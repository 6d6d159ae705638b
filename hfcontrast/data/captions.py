"""Captions: which of a row's texts is read in which epoch, and the tokens that it becomes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Features, Value

from hfcontrast.data.decode import UnreadableRow
from hfcontrast.data.keyed_random import uniforms

_CHOICE = 2**32 + 1  # a view number that no crop has: its random number chooses the caption
NAMES = ("caption", "captions", "text", "texts", "txt")
_NOT_UTF8 = "\ufffd"  # what a tolerant reader puts where the bytes were no UTF-8


class UnusableCaption(UnreadableRow):
    """A row has no caption that can be read; the message says why."""


def find_captions(features: Features, column: str | None) -> tuple[str, ...] | None:
    """Where the captions are: the column, and below it the names of the fields, as in ``("json", "caption")``.

    Args:
        features: The columns.
        column: ``COLUMN`` or ``COLUMN.FIELD``; None takes the first of ``NAMES`` that there is.

    Returns:
        The path; None where there is no such column.
    """
    if column is None:
        return next(((name,) for name in NAMES if name in features), None)
    if column in features:
        return (column,)
    path = tuple(column.split("."))
    found: Any = features
    for name in path:
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return path


def holds_texts(feature: Any) -> bool:
    """Whether a column can hold captions: texts or bytes, or lists of them."""
    inner = getattr(feature, "feature", feature[0] if isinstance(feature, list) and feature else feature)
    kinds = ("string", "large_string", "binary", "large_binary")
    return isinstance(inner, Value) and (inner.dtype in kinds or inner.dtype == "null")


def usable_captions(value: Any) -> list[str]:
    """The captions of one row that can be read, without the blanks around them.

    Args:
        value: A text, bytes in UTF-8, a list of them, or None.

    Raises:
        UnusableCaption: There is none: it is missing, empty, or not UTF-8.
    """
    given = value if isinstance(value, list | tuple) else [value]
    texts = [_as_text(one) for one in given]
    usable = [text for text in texts if text and _NOT_UTF8 not in text]
    if usable:
        return usable
    if any(text for text in texts):
        raise UnusableCaption("the caption is not UTF-8")
    raise UnusableCaption("the caption is empty" if any(one is not None for one in given) else "there is no caption")


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return " ".join(value.split()) if isinstance(value, str) else ""


def captions_of(row: dict, path: tuple[str, ...]) -> Any:
    """What a row holds under a path of ``find_captions``; None where something on the way is missing."""
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def all_captions(values: Iterable[Any]) -> Iterator[str]:
    """Every readable caption of many rows, for a tokenizer to be trained on."""
    for value in values:
        try:
            yield from usable_captions(value)
        except UnusableCaption:
            continue


def control_tokens(tokenizer: Any) -> list[str]:
    """Control tokens that a tokenizer makes of their names within a text even where it is told to take them for text.

    So do those whose names are pieces of the vocabulary, such as ``</s>`` of a unigram model.

    Args:
        tokenizer: A fast tokenizer of transformers.
    """
    found = []
    for name in dict.fromkeys(tokenizer.all_special_tokens):
        ids = tokenizer(name, add_special_tokens=False, split_special_tokens=True, verbose=False).input_ids
        if tokenizer.convert_tokens_to_ids(name) in ids:
            found.append(name)
    return found


def without_control(text: str, controls: Sequence[str]) -> str:
    """The text, with the letters of control tokens set apart, so that they are text.

    Args:
        text: The text.
        controls: What :func:`control_tokens` found.
    """
    for name in controls:
        text = text.replace(name, " ".join(name))
    return text


class CaptionReader:
    """Chooses one caption of each sample and turns a batch of them into tokens.

    Of several captions one is drawn in each epoch, as a function of (seed, epoch, sample) like the views.

    Args:
        path: Where a row has its captions (see ``find_captions``).
        tokenizer: A fast tokenizer of transformers.
        max_length: Tokens of a caption at most, those at its ends included; what is longer is cut off.
        pad_to_max: Whether all batches are ``max_length`` wide, as SigLIP needs it, instead of as wide as their longest.
    """

    def __init__(self, path: tuple[str, ...], tokenizer: Any, max_length: int, pad_to_max: bool = False):
        self.path = path
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.pad_to_max = pad_to_max
        self.controls = control_tokens(tokenizer)

    def choose(self, captions: list[list[str]], seed: int, epoch: int, ids: list[int]) -> list[str]:
        """One caption of each sample.

        Args:
            captions: The usable captions of each.
            seed: The run's seed.
            epoch: The epoch.
            ids: What names the samples.
        """
        if all(len(several) == 1 for several in captions):
            return [several[0] for several in captions]
        draws = uniforms(seed, epoch, np.array(ids, dtype=np.uint64), _CHOICE, 1)[:, 0]
        return [several[int(draw * len(several))] for several, draw in zip(captions, draws, strict=True)]

    def tokenize(self, texts: list[str]) -> tuple[dict[str, torch.Tensor], int]:
        """``input_ids`` and, where the model takes one, ``attention_mask``, (B, T) each; and how many were cut off.

        Control tokens within a text, such as ``<|endoftext|>``, are text.
        """
        encoded = self.tokenizer(
            [without_control(text, self.controls) for text in texts],
            split_special_tokens=True,
            truncation=True,
            max_length=self.max_length,
            padding="max_length" if self.pad_to_max else "longest",
            return_tensors="pt",
        )
        names = [name for name in ("input_ids", "attention_mask") if name in self.tokenizer.model_input_names]
        return {name: encoded[name] for name in names}, sum(bool(one.overflowing) for one in encoded.encodings)
