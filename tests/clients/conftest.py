"""Small trained encoders of each kind, exported once for all clients, and the page of docs/ whose lines the tests run."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

PAGE = Path(__file__).parents[2] / "docs" / "other-tools.md"
TOWER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
PATCHES = {**TOWER, "patch_size": 8}
BACKBONES = {
    "vit": {"model_type": "vit", **PATCHES},
    "resnet": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 16],
        "depths": [1, 1],
        "layer_type": "basic",
    },
    "timm": "timm/test_resnet",
    "timm_vit": "timm/test_vit",
    "small_resnet": {"model_type": "small_resnet"},
}
TOWERS = {"model_type": "clip", "projection_dim": 16, "vision_config": PATCHES, "text_config": TOWER}
SIZE = 32
ENCODER = {
    "method": {"name": "simclr", "projection_dim": 16},
    "data": {"path": "builtin/digits", "split": "train[:64]"},
}
PAIRS = {
    "method": {"name": "clip"},
    "data": {"path": "builtin/shapes", "split": "train[:64]"},
    "text": {"vocab_size": 600, "max_length": 24},
}


class Export(NamedTuple):
    """What a run has published.

    Args:
        name: The kind of encoder.
        folder: Where.
        pixels: Images as the published processor prepares them, (B, C, H, W).
        features: What was evaluated, of these images, (B, D).
    """

    name: str
    folder: Path
    pixels: Tensor
    features: Tensor

    def loaded(self) -> tuple:
        """The encoder and its processor, as hfcontrast opens and evaluates them."""
        from hfcontrast.commands.models import open_model

        opened = open_model(str(self.folder), None, "cpu", False)
        return opened.model.eval(), opened.image_processor


@pytest.fixture(scope="session")
def export(tmp_path_factory) -> Callable[[str], Export]:
    """Trains two steps and publishes, at the first call with the name of a kind."""
    root, made = tmp_path_factory.mktemp("outputs"), {}

    def of_kind(name: str) -> Export:
        if name not in made:
            made[name] = trained(name, root / name)
        return made[name]

    return of_kind


def trained(name: str, folder: Path) -> Export:
    """A run of two steps."""
    from hfcontrast.encoders import encode
    from hfcontrast.recipe import load_recipe
    from hfcontrast.run_training import run_training

    rest = {
        "backbone": TOWERS if name == "clip" else BACKBONES[name],
        "views": {"all": {"size": SIZE}},
        "optim": {"warmup_epochs": 0},
        "train": {"batch_size": 16, "steps": 2, "device": "cpu", "output": str(folder), "checkpoint_every": 2},
        "eval": {"baselines": False, "max_train": 32, "max_test": 16},
    }
    torch.manual_seed(0)
    run_training(load_recipe({**(PAIRS if name == "clip" else ENCODER), **rest}))
    pixels = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    made = Export(name, folder, pixels, pixels)
    with torch.no_grad():
        return made._replace(features=encode(made.loaded()[0], pixels))


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """A folder with ``train`` and ``val``, each with images of two classes: dark and bright ones."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        for number in range(count):
            name = ("bright", "dark")[number % 2]
            file = root / split / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            low = 0 if name == "dark" else 128
            Image.fromarray(random.integers(low, low + 128, (40, 48, 3), dtype=np.uint8)).save(file)
    return root


@pytest.fixture
def lines(tmp_path, monkeypatch, images) -> Callable[..., str]:
    """A block of a language below a heading of the page, the first or a later one, for an export and the small images, in a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")

    def block(heading: str, language: str, folder: Path, number: int = 0) -> str:
        section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
        found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.M | re.S)[number]
        return re.sub(r"outputs/(?:dino_vit|simclr_timm|clip)\b", str(folder), found).replace("/my/images", str(images))

    return block
