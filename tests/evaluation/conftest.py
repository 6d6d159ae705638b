"""Tiny models with an image and a text tower, saved by plain transformers, and data for them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)

from hfcontrast.evaluation.online import OnlineEvaluation, Task
from hfcontrast.evaluation.registry import get_evaluator
from hfcontrast.evaluation.rows import EvaluationRows
from tests.data.conftest import png

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "dark_gray": (60, 60, 60)}
_WORDS = "<pad> <bos> <eos> <unk> a photo of the picture red green blue dark gray _ . square big small"
WORDS = tuple(_WORDS.split())
LENGTH = 12
LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**LAYERS, "image_size": 16, "patch_size": 8}
TEXT = {**LAYERS, "vocab_size": len(WORDS), "max_position_embeddings": LENGTH, "pad_token_id": 0}
ENDS = {"bos_token_id": 1, "eos_token_id": 2}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LENGTH, **names)


def image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def tiny_processor() -> CLIPProcessor:
    return CLIPProcessor(image_processor(), tiny_tokenizer())


def tiny_clip(seed: int = 0) -> CLIPModel:
    torch.manual_seed(seed)
    config = CLIPConfig(text_config={**TEXT, **ENDS}, vision_config=VISION, projection_dim=24)
    return CLIPModel(config).eval()


def tiny_siglip(seed: int = 0) -> SiglipModel:
    torch.manual_seed(seed)
    return SiglipModel(SiglipConfig(text_config={**TEXT, **ENDS}, vision_config=VISION)).eval()


def save(model, folder: Path) -> str:
    """A folder as plain transformers writes it."""
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


def colored(count: int, *, broken: tuple[int, ...] = (), seed: int = 3) -> Dataset:
    """Noisy images of one color, with label, one caption and several captions."""
    rng = np.random.default_rng(seed)
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=list(COLORS)),
            "caption": Value("string"),
            "captions": List(Value("string")),
            "number": Value("int32"),
        }
    )
    rows: dict[str, list] = {name: [] for name in features}
    for number in range(count):
        name = list(COLORS)[number % len(COLORS)]
        noise = rng.integers(-25, 25, (18, 20, 3))
        pixels = np.clip(np.array(COLORS[name]) + noise, 0, 255).astype(np.uint8)
        rows["image"].append({"bytes": b"broken" if number in broken else png(pixels), "path": None})
        rows["label"].append(number % len(COLORS))
        rows["caption"].append(f"a big {name} square" if number % 2 else f"a small {name} square")
        rows["captions"].append([f"a photo of {name}", rows["caption"][-1], f"the {name} picture"][: 1 + number % 3])
        rows["number"].append(10 * number)
    return Dataset.from_dict(rows, features=features)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> str:
    return save(tiny_clip(), tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def colors_folder(tmp_path_factory) -> str:
    """A data folder with the splits train (40 rows, two of them broken) and test (22 rows, one of them broken)."""
    folder = tmp_path_factory.mktemp("colors")
    colored(40, broken=(3, 17)).to_parquet(folder / "train-00000-of-00001.parquet")
    colored(22, broken=(5,), seed=4).to_parquet(folder / "test-00000-of-00001.parquet")
    return str(folder)


def online(train, test, **tasks) -> OnlineEvaluation:
    """An evaluation by some evaluators with these settings (beside kNN and the features' statistics), as runs have it."""
    wanted = {"knn": {}, **tasks, "features": {}} if train else {"features": {}}
    found = {name: get_evaluator(name) for name in wanted}
    chosen = {name: Task(one, one.settings_class(**wanted[name])) for name, one in found.items()}
    return OnlineEvaluation(EvaluationRows(test, train), chosen)
