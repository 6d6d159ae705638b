"""Small rows to evaluate on: noisy images of four colors, with labels and class names, and an encoder for them."""

import io
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage
from transformers import PreTrainedModel

from ..data.sources import Rows, rows_of
from ..encoders.build import build_encoder
from ..encoders.model_config import backbone_config
from ..evaluation.rows import EvaluationRows, prepared_rows
from .small import TINY_BACKBONE

SIZE = 32  # of the images, in pixels
CLASSES = ("red", "green", "blue", "gray")
_COLORS = ((220, 40, 40), (40, 200, 50), (50, 60, 220), (90, 90, 90))


def color_rows(train: int = 41, test: int = 23, hidden: bool = False) -> tuple[PreTrainedModel, EvaluationRows]:
    """A small ViT, and small noisy images of four colors with labels and class names: the same ones every time.

    Args:
        train: How many train images.
        test: How many test images.
        hidden: Whether the labels of the test images are hidden, as -1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_encoder(backbone_config(TINY_BACKBONE, [SIZE]))
    size = {"height": SIZE, "width": SIZE}
    rows = prepared_rows(
        _images(train, 1),
        _images(test, 2, hidden),
        _Processor(),
        size=size["height"],
        batch_size=8,
        max_train=None,
        max_test=None,
    )
    return encoder, rows


class _Processor:
    """From images to pixel values in [-1, 1]."""

    def __call__(self, images: list, return_tensors: str) -> Any:
        pixels = torch.stack([torch.tensor(np.asarray(image)) for image in images])
        return type("Batch", (), {"pixel_values": pixels.permute(0, 3, 1, 2).float() / 127.5 - 1})


def _images(count: int, seed: int, hidden: bool = False) -> Rows:
    draws = np.random.default_rng(seed)
    files, labels = [], []
    for number in range(count):
        label = number % len(CLASSES)
        pixels = np.clip(np.array(_COLORS[label]) + draws.integers(-60, 60, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        PILImage.fromarray(pixels).save(file, "PNG")
        files.append({"bytes": file.getvalue(), "path": None})
        labels.append(-1 if hidden else label)
    features = Features({"image": Image(), "label": Value("int64") if hidden else ClassLabel(names=list(CLASSES))})
    data = Dataset.from_dict({"image": files, "label": labels}, features=features)
    return rows_of(data, len(data), "images of four colors")
