"""Small data sets for the tests of the data room."""

import io

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage

from hfcontrast.data import Rows, load_rows
from hfcontrast.view import View

FEATURES = Features({"image": Image(decode=False), "label": ClassLabel(names=["a", "b", "c"])})


def png(pixels: np.ndarray, **options) -> bytes:
    """The pixels as a PNG file."""
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def encoded_images(count: int, seed: int = 0) -> list[bytes]:
    """Smooth images of different sizes and forms."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        size = tuple(int(side) for side in rng.integers(20, 50, 2))
        small = PILImage.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        result.append(png(np.asarray(small.resize(size, PILImage.Resampling.BICUBIC))))
    return result


def rows_of(images: list[bytes | None], paths: list[str] | None = None) -> Rows:
    """Map-style rows with labels 0, 1, 2, 0, 1, ..."""
    paths = paths or [None] * len(images)
    columns = {
        "image": [image and {"bytes": image, "path": path} for image, path in zip(images, paths)],
        "label": [number % 3 for number in range(len(images))],
    }
    return Rows(Dataset.from_dict(columns, features=FEATURES), len(images), ["a", "b", "c"], False, "the test rows")


@pytest.fixture(scope="session")
def views() -> tuple[View, ...]:
    color = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "grayscale": 0.2}
    return (
        View(name="first", size=24, blur=0.5, **color),
        View(name="second", size=24, solarize=0.5, interpolation="bilinear", **color),
        View(name="local", key="local_pixel_values", count=3, size=16, scale=(0.05, 0.3), vertical_flip=0.5),
    )


@pytest.fixture(scope="session")
def map_rows() -> Rows:
    return rows_of(encoded_images(50))


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> str:
    """A folder of four parquet files with 20, 17, 23 and 20 rows."""
    folder = tmp_path_factory.mktemp("shards")
    first = 0
    dataset = rows_of(encoded_images(80, seed=1)).dataset
    for number, count in enumerate((20, 17, 23, 20)):
        part = dataset.select(range(first, first + count))
        part.to_parquet(folder / f"train-{number:05d}-of-00004.parquet")
        first += count
    return str(folder)


@pytest.fixture
def stream_rows(shards) -> Rows:
    return load_rows(shards, streaming=True)
