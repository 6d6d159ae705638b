"""A tokenizer for captions: byte-pair encoding as in CLIP, its pieces learned from the captions themselves."""

import itertools
import json
from collections.abc import Iterable

from tokenizers import pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer, PreTrainedTokenizerBase

from hfcontrast.errors import DataError

_START, _END, _WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"


def train_tokenizer(
    captions: Iterable[str], vocab_size: int, max_length: int, mask: bool = True
) -> PreTrainedTokenizerBase:
    """Trains a tokenizer that transformers loads without this package.

    Texts become lower case and are split into words, digits and signs, words into pieces of their UTF-8 bytes: every byte is a
    piece, within a word and at its end, so that there is no text that it cannot write. The start and end tokens are the last
    two of the vocabulary; the end pads.

    Args:
        captions: The texts to learn from.
        vocab_size: Entries at most, 514 or more; captions with few different words need fewer.
        max_length: Tokens of a text at most; what it is cut at by ``truncation=True``.
        mask: Whether it gives an ``attention_mask`` beside ``input_ids``, which SigLIP's text tower is not to see.

    Raises:
        DataError: There is no caption.
    """
    captions = iter(captions)
    if (first := next(captions, None)) is None:
        raise DataError("no caption to train a tokenizer on: see data.caption_column, or name one in text.tokenizer")
    learner = CLIPTokenizer()._tokenizer  # its normalization, and its way to split
    trainer = BpeTrainer(vocab_size=vocab_size, end_of_word_suffix=_WORD_END, show_progress=False)
    learner.train_from_iterator(itertools.chain([first], captions), trainer)
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    alphabet = [*bytes_, *(byte + _WORD_END for byte in bytes_)]
    learned = json.loads(learner.to_str())["model"]["merges"]
    merges = [tuple(pair) for pair in learned][: vocab_size - len(alphabet) - 2]
    pieces = dict.fromkeys([*alphabet, *("".join(pair) for pair in merges), _START, _END])
    return CLIPTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=merges,  # type: ignore[arg-type]  # pairs, as tokenizers takes them
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"] if mask else ["input_ids"],
    )
