"""Rows that are held out for evaluation by default."""

import numpy as np
import pytest
from PIL import Image

from hfcontrast.data.held_out import held_out_sources, held_out_split, in_fifth


def folder(path, classes="ab", count=2):
    for name in classes:
        (path / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)).save(path / name / f"{i}.png")
    return path


def places(**source):
    found = list(held_out_sources({"name": None, "data_dir": None, "data_files": None, "revision": None, **source}))
    return [(split, beside and beside.name, other.get("data_dir") or other["path"]) for other, split, beside in found]


def test_splits_of_the_data_set_come_before_folders_beside_it(tmp_path):
    root = tmp_path / "set"
    train = folder(root / "train")
    assert places(path="imagefolder", data_dir=str(train)) == []
    other = folder(root / "val")
    assert places(path="imagefolder", data_dir=str(train)) == [("train", "val", str(other))]
    assert places(path=f"{train}/") == [("train", "val", str(other))]
    assert places(path=str(root), data_dir="train") == [("train", "val", str(other))]
    assert places(path="imagefolder", data_dir=str(root)) == [("validation", None, str(root))]
    best = folder(root / "Test")
    (root / "testing").mkdir()  # without images
    assert [name for _, name, _ in places(path="imagefolder", data_dir=str(train))] == ["Test", "val"]
    assert places(path="imagefolder", data_dir=str(train))[0][2] == str(best)


def test_only_a_folder_of_training_images_has_others_beside_it(tmp_path):
    for name in ("cats", "test"):
        folder(tmp_path / name)
    assert places(path="imagefolder", data_dir=str(tmp_path / "cats")) == []
    assert places(path="imagefolder", data_files=f"{tmp_path}/cats/**") == []


@pytest.mark.parametrize(
    "splits, best", [(["train", "dev"], "dev"), (["val", "eval", "x"], "eval"), (["Train", "TEST"], "TEST")]
)
def test_usual_names_of_splits(splits, best):
    assert held_out_split(splits) == best and held_out_split(["train", "extra"]) is None


def test_a_fifth_is_one_of_five_rows_and_follows_no_cycle():
    chosen = np.array([in_fifth(i) for i in range(5000)])
    assert (chosen.reshape(-1, 5).sum(axis=1) == 1).all()
    for cycle in (2, 3, 5, 10, 25):
        shares = [chosen[start::cycle].mean() for start in range(cycle)]
        assert min(shares) > 0.1 and max(shares) < 0.3
