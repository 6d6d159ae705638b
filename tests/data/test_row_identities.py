"""Identities of rows: the same under every expression of splits, map-style and streaming, and by their paths."""

import os

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from PIL import Image as PILImage

from hfcontrast.data import load_rows
from tests.data.conftest import png


def noise(seeds):
    features = Features(image=Image(), label=ClassLabel(names=["a", "b"]))
    images = [
        {"bytes": png(np.random.default_rng(s).integers(0, 256, (8, 8, 3)).astype("uint8")), "path": None}
        for s in seeds
    ]
    return Dataset.from_dict({"image": images, "label": [s % 2 for s in seeds]}, features=features)


def shared(own, others):
    """How many of some rows are others too."""
    return int(np.isin(own.identities(), others.identities()).sum())


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Data sets of several kinds with 20 train rows and 10 test rows."""
    root = tmp_path_factory.mktemp("data")
    train, test = noise(range(20)), noise(range(100, 110))
    for name, rows in (("train", train), ("test", test)):
        rows.to_parquet(root / f"{name}.parquet")
        for number, row in enumerate(rows):
            (root / "folder" / name / "ab"[row["label"]]).mkdir(parents=True, exist_ok=True)
            row["image"].save(root / "folder" / name / "ab"[row["label"]] / f"{number}.png")
    DatasetDict(train=train, test=test).save_to_disk(root / "saved")
    files = {name: str(root / f"{name}.parquet") for name in ("train", "test")}
    return {
        "parquet": {"path": "parquet", "data_files": files},
        "saved": {"path": str(root / "saved")},
        "folder": {"path": str(root / "folder")},
    }


@pytest.mark.parametrize("kind", ["parquet", "saved", "folder"])
def test_a_row_is_the_same_under_every_expression(sources, kind):
    def opened(split, streaming=False):
        return load_rows(**sources[kind], split=split, streaming=streaming)

    train, test = opened("train"), opened("test")
    assert len(set(train.identities())) == 20 and shared(train, test) == 0
    assert shared(opened("train+test"), test) == shared(test, opened("test+train")) == 10
    assert shared(opened("train[:80%]"), opened("train[60%:]")) == 4
    stream = opened("train", streaming=True)
    assert shared(stream, train) == 20
    even = stream.where(lambda number: number % 2 == 0)
    assert shared(even, train) == 10 and shared(even, opened("train[:4]")) == 2
    assert shared(even, train.select(range(1, 20, 2))) == 0 and shared(train.select([3, 5]), opened("train[4:]")) == 1


def test_files_and_folders_are_known_by_what_they_are(sources, tmp_path):
    saved, folder = sources["saved"]["path"], sources["folder"]["path"]
    assert shared(load_rows(f"{saved}/train"), load_rows(saved)) == 20
    assert shared(load_rows(f"{folder}/train"), load_rows(folder)) == 20
    assert shared(load_rows(f"{folder}/train/a"), load_rows(folder)) == 10
    (tmp_path / "links").mkdir()
    for number in (0, 2, 4):
        os.symlink(f"{folder}/train/a/{number}.png", tmp_path / "links" / f"other{number}.png")
    PILImage.new("RGB", (8, 8)).save(tmp_path / "links" / "own.png")
    assert shared(load_rows(str(tmp_path / "links")), load_rows(folder)) == 3
    files = sources["parquet"]["data_files"]
    both = {"train": [files["train"], files["test"]], "test": files["test"]}
    for streaming in (False, True):
        train, test = (load_rows("parquet", data_files=both, split=name, streaming=streaming) for name in both)
        assert train.identities()[20:].tolist() == test.identities().tolist() and shared(train, test) == 10
