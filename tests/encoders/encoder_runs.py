"""Runs of one step with any encoder, and how plain transformers reads what they publish."""

import contextlib
import io
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage
from vision_types import SIZE

from hfcontrast.commands.arguments import DataSource
from hfcontrast.commands.embed_data import embed
from hfcontrast.commands.evaluate_model import evaluate_model
from hfcontrast.errors import HFContrastError
from hfcontrast.recipe import load_recipe
from hfcontrast.run import run

ROWS = {"train": 16, "test": 6}
_INTERPOLATED = ", interpolate_pos_encoding=True"  # of two towers the card says so in their line
IMAGE = "image.png"  # the first test row: the card's lines are run on it


@dataclass
class Outcome:
    """What became of an encoder.

    Attributes:
        refused: The sentence with which it was refused; None of one that was trained.
        features: Width of the features.
        line: How the card reads them.
        pipeline: How it reads them from a pipeline; None where it does not.
        problems: What is not as it should be, in sentences.
        seconds: Of this process.
    """

    refused: str | None = None
    features: int | None = None
    line: str | None = None
    pipeline: str | None = None
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


def write_data(folder: Path) -> DataSource:
    """A few labeled images of noise as parquet, and the first test image as a file beside them."""
    random = np.random.default_rng(0)
    kinds = ["dark", "light"]
    features = Features({"image": Image(), "label": ClassLabel(names=kinds), "caption": Value("string")})
    for split, count in ROWS.items():
        images = []
        for i in range(count):
            low, high = ((0, 160), (96, 256))[i % 2]
            pixels = random.integers(low, high, (48, 72, 3)).astype(np.uint8)
            images.append(PILImage.fromarray(pixels).resize((96, 72), PILImage.Resampling.BICUBIC))
        captions = [f"a {kinds[i % 2]} image, number {i}" for i in range(count)]
        rows = {"image": images, "label": [i % 2 for i in range(count)], "caption": captions}
        Dataset.from_dict(rows, features=features).to_parquet(folder / f"{split}.parquet")
        images[0].save(folder / IMAGE)
    return DataSource("parquet", data_files={name: str(folder / f"{name}.parquet") for name in ROWS})


def recipe_of(backbone: Any, data: DataSource, output: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """One step of SimCLR with an encoder."""
    recipe = {
        "method": {"name": "simclr", "hidden_dim": 16, "projection_dim": 8},
        "backbone": backbone,
        "data": {"path": data.path, "data_files": data.data_files, "workers": 0},
        "views": {"all": {"size": SIZE}},
        "optim": {"name": "adamw", "lr": 0.001},
        "train": {"steps": 1, "batch_size": 8, "device": "cpu", "output": str(output)},
        "eval": {"baselines": False},
    }
    for name, settings in sections.items():
        recipe[name] = settings if name == "method" else {**recipe.get(name, {}), **settings}
    return recipe


def outcome_of(backbone: Any, data: DataSource, output: Path, **sections: dict[str, Any]) -> Outcome:
    """Trains, publishes, evaluates and embeds with an encoder; what the card says is tried later, see :func:`read_card`."""
    started, outcome = time.process_time(), Outcome()
    torch.manual_seed(0)
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            notes = run(load_recipe(recipe_of(backbone, data, output, **sections)))
    except HFContrastError as error:
        outcome.refused = str(error)
        if "\n" in outcome.refused:
            outcome.problems.append("refused in more than one line")
        if (output / "config.json").exists():
            outcome.problems.append("something was published all the same")
    except Exception as error:
        outcome.problems.append(f"a traceback, {type(error).__name__}: {error}")
    else:
        try:
            _compare(output, data, notes, told.getvalue(), outcome)
        except HFContrastError as error:
            outcome.problems.append(f"what was published cannot be used: {error}")
    outcome.seconds = time.process_time() - started
    return outcome


def _compare(output: Path, data: DataSource, notes: dict[str, Any], told: str, outcome: Outcome) -> None:
    scores = evaluate_model(str(output), data, tasks=["knn"], device="cpu")["scores"]
    # Of random weights that make all images alike, rounding decides the classes and the rank.
    for name, key in (("feature_std", "std"), ("effective_rank", "effective_rank")):
        own, other = notes["trained"][name], scores["features"][key]
        alike = key != "std" and notes["trained"]["feature_std"] < 0.1
        if not np.isclose(own, other, rtol=1e-3, atol=1e-4) and not alike:
            outcome.problems.append(f"{name} is {own} in the run and {other} by hfcontrast evaluate")
    embed(str(output), data, output / "embeddings", split="test", device="cpu")
    outcome.features = len(embedding_of(output))
    card = (output / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ *(?:image_)?features = (.+?)  # ", card, re.MULTILINE)
    outcome.line, outcome.pipeline = (*lines, None)[:2]
    last = re.search(r"^Load it: .*features: (.+)$", told, re.MULTILINE)[1]
    if last.replace("pixel_values=pixel_values", "**images") != outcome.line.replace(_INTERPOLATED, ""):
        outcome.problems.append("the run's line names other features than the card")


def embedding_of(output: Path) -> np.ndarray:
    """The embedding of the first test image."""
    table = pyarrow.parquet.read_table(output / "embeddings" / "part-00000.parquet")
    return np.asarray(table["image_embedding"][0].as_py(), dtype=np.float32)


def compare_card(output: Path, found: dict[str, Any], outcome: Outcome) -> None:
    """Notes what the card's lines gave that is not the embedding.

    Args:
        output: The published folder.
        found: What :func:`card_reader.read_card` found.
        outcome: Of the encoder.
    """
    expected = embedding_of(output)
    for kind, values in found.items():
        if isinstance(values, str):
            outcome.problems.append(f"the card's {kind}: {values}")
        elif np.shape(values) != (1, len(expected)):
            outcome.problems.append(f"the card's {kind} gives the shape {np.shape(values)}, not {(1, len(expected))}")
        elif not np.allclose(values[0], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()):
            outcome.problems.append(f"the card's {kind} gives other features")
    for kind, line in {"model": outcome.line, "pipeline": outcome.pipeline}.items():
        if line and kind not in found:
            outcome.problems.append(f"the card's {kind} was not found")
