"""The tokenizer of a run, and how captions are read with it."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import Accelerator
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from ..atomic import atomic_folder
from ..data.captions import CaptionReader, all_captions, captions_of
from ..data.sources import Rows
from ..data.stream_errors import read_rows
from ..data.tokenizer import train_tokenizer
from ..encoders.families import family_of_type
from ..encoders.pretrained import read_pretrained
from ..encoders.released_tokenizer import ReleasedTokenizer
from ..encoders.tower_configs import longest_text
from ..errors import RecipeError
from ..progress import LongTask
from ..recipe import Recipe

# Tokens of a caption: CLIP's, and those that transformers' pipelines pad the texts of a SigLIP to.
CLIP_LENGTH, SIGLIP_LENGTH = 77, 64
_FOLDER = "checkpoints/tokenizer"
_NO_LIMIT = 10**6  # tokenizers without one say a number that is larger by far


class TextFacts(NamedTuple):
    """What the text tower has to know of the tokenizer."""

    vocab_size: int
    max_length: int
    bos_token_id: int | None
    eos_token_id: int | None
    pad_token_id: int | None


def build_captions(recipe: Recipe, rows: Rows, accelerator: Accelerator) -> CaptionReader:
    """Reads captions with the recipe's tokenizer, the pretrained model's own, or one that is trained on the captions.

    A trained one is kept in the output folder, so that a resumed run uses it.

    Raises:
        RecipeError: The tokenizer cannot be loaded.
        DataError: There is no caption to train one on.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked
    name, source = _chosen(recipe)
    full_length = is_siglip(recipe)
    if name is not None:
        tokenizer = load_tokenizer(name, source, recipe)
    else:
        tokenizer = _trained(recipe, rows, accelerator, mask=not full_length)
    stated = tokenizer.model_max_length if tokenizer.model_max_length < _NO_LIMIT else _usual_length(full_length)
    length = recipe.text.max_length or min(stated, _longest_text(recipe) or stated)  # a tokenizer's is but a hint
    tokenizer.model_max_length = length  # what a user of the published folder gets with truncation=True
    tokenizer.padding_side = (
        "right"  # padded on the left, a text's positions would depend on its neighbors in the batch
    )
    return CaptionReader(rows.captions, tokenizer, length, full_length)


def text_facts(captions: CaptionReader) -> TextFacts:
    """What the text tower has to know of the tokenizer."""
    tokenizer = captions.tokenizer
    return TextFacts(
        len(tokenizer), captions.max_length, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    )


def is_siglip(recipe: Recipe) -> bool:
    """Whether the text tower is SigLIP's, which looks at the last of ``max_length`` tokens and at no mask."""
    if recipe.backbone.weights_of("text"):
        config = _text_config(recipe)
        return config is not None and family_of_type(config.model_type).pads_texts
    return family_of_type((recipe.backbone.text or recipe.backbone).model_type).pads_texts


def _text_config(recipe: Recipe) -> PreTrainedConfig | None:
    """The configuration of a text tower with released weights; None where there are none, or where loading it will report an error."""
    weights = recipe.backbone.weights_of("text")
    if weights is None:
        return None
    try:
        config = read_pretrained(AutoConfig, weights.name, f"backbone.{weights.argument}", weights.revision)
    except RecipeError:
        return None
    return getattr(config, "text_config", config)


def _longest_text(recipe: Recipe) -> int | None:
    """Tokens of a text at most that a text tower with released weights takes."""
    config = _text_config(recipe)
    return None if config is None else longest_text(config)


def _usual_length(siglip: bool) -> int:
    return SIGLIP_LENGTH if siglip else CLIP_LENGTH


def load_tokenizer(name: str, setting: str, recipe: Recipe) -> PreTrainedTokenizerBase:
    """A fast tokenizer from a folder or the Hub.

    Raises:
        RecipeError: There is none, or it cannot say what it cut off and cannot pad.
    """
    weights = recipe.backbone.weights_of("text")
    revision = weights.revision if weights and setting == f"backbone.{weights.argument}" else None
    problem = "has no tokenizer that can be loaded (name one in text.tokenizer, or leave both out and one is trained on the captions)"
    tokenizer = read_pretrained(ReleasedTokenizer, name, setting, revision, problem)
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        lack = "is not a fast one" if not tokenizer.is_fast else "has no padding token"
        raise RecipeError(f"{setting}: the tokenizer of {name!r} {lack}: take another, with text.tokenizer")
    return tokenizer


def _chosen(recipe: Recipe) -> tuple[str | None, str]:
    """Where the tokenizer is loaded from, and which setting says so; None to train one."""
    if recipe.text.tokenizer is not None:
        return recipe.text.tokenizer, "text.tokenizer"
    weights = recipe.backbone.weights_of("text")
    return (weights.name, f"backbone.{weights.argument}") if weights else (None, "backbone.pretrained")


def _trained(recipe: Recipe, rows: Rows, accelerator: Accelerator, mask: bool) -> PreTrainedTokenizerBase:
    folder = Path(recipe.train.output) / _FOLDER
    going_on = any(folder.parent.glob("step_*"))
    if accelerator.is_main_process and not (going_on and folder.is_dir()):
        length = recipe.text.max_length or _usual_length(siglip=not mask)
        captions = itertools.islice(all_captions(_values(rows)), recipe.text.training_captions)
        with LongTask("training a tokenizer on the captions"):
            tokenizer = train_tokenizer(captions, recipe.text.vocab_size, length, mask)
        with atomic_folder(folder) as unfinished:
            tokenizer.save_pretrained(unfinished)
    accelerator.wait_for_everyone()
    return AutoTokenizer.from_pretrained(folder)


def _values(rows: Rows) -> Iterator[Any]:
    """The captions of all rows, without their images."""
    column = rows.captions[0]
    for row in read_rows(rows.dataset.select_columns([column]), rows.description, rows.shard_files):
        yield captions_of(row, rows.captions)
