"""Tokenizers of released models: of a model without one, transformers makes an empty tokenizer that knows no word."""

import os
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

_NONE = "there are no files of a tokenizer beside it, such as tokenizer.json, or they know no word"
_BEGINNINGS = ("tokenizer", "vocab", "merges", "spiece", "sentencepiece", "spm", "bpe", "tekken")
_MARK = "▁"  # a space, the one piece that an empty tokenizer of T5's kind has


class ReleasedTokenizer:
    """``AutoTokenizer``, which refuses a model that has no tokenizer."""

    @staticmethod
    def from_pretrained(name: str, **options: Any) -> PreTrainedTokenizerBase:
        """The tokenizer of a folder or of a name on the Hub; arguments as those of ``AutoTokenizer``.

        Raises:
            ValueError: There is none: no files of one, or nothing in its vocabulary but special tokens, so that all texts would be the same.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(name, **options)
        except Exception as error:  # every kind of tokenizer misses its files in its own way
            if os.path.isdir(name) and not _has_files(name):
                raise ValueError(_NONE) from error
            raise
        if not any(piece.strip(_MARK) for piece in tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)):
            raise ValueError(_NONE)
        return tokenizer


def _has_files(folder: str) -> bool:
    return any(name.lower().startswith(_BEGINNINGS) or name.endswith(".model") for name in os.listdir(folder))
