"""The fingerprint of rows depends on their content, not on where they are stored."""

import shutil

import pyarrow
import pytest
from datasets import Dataset, Features, Image, Value

from hfcontrast.data import load_rows
from hfcontrast.data.fingerprint import fingerprint_of_rows, fingerprints_of_earlier_labels
from tests.data.conftest import encoded_images, rows_of


def folder(path, count: int = 12):
    for number, data in enumerate(encoded_images(count)):
        place = path / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:02d}.png").write_bytes(data)
    return path


@pytest.mark.parametrize("streaming", [False, True])
def test_of_a_folder(tmp_path, streaming):
    def fingerprint(place):
        return load_rows(str(place), streaming=streaming).fingerprint()

    first = fingerprint(folder(tmp_path / "first"))
    shutil.copytree(tmp_path / "first", tmp_path / "elsewhere" / "moved")
    assert fingerprint(tmp_path / "elsewhere" / "moved") == first
    shutil.copytree(tmp_path / "first", tmp_path / "renamed")
    (tmp_path / "renamed" / "cat" / "00.png").rename(tmp_path / "renamed" / "cat" / "99.png")
    shutil.copytree(tmp_path / "first", tmp_path / "resized")
    (tmp_path / "resized" / "cat" / "02.png").write_bytes(encoded_images(2)[1])
    shutil.copytree(tmp_path / "first", tmp_path / "more")
    (tmp_path / "more" / "dog" / "99.png").write_bytes(encoded_images(1)[0])
    others = [fingerprint(tmp_path / name) for name in ("renamed", "resized", "more")]
    assert len({first, *others}) == 4 and None not in others


def test_of_rows_with_bytes(tmp_path):
    images = encoded_images(20)
    rows = rows_of(images)
    first = rows.fingerprint()
    rows.dataset.to_parquet(tmp_path / "a.parquet")
    rows.dataset.save_to_disk(tmp_path / "saved")
    assert load_rows("parquet", data_files=str(tmp_path / "a.parquet")).fingerprint() == first
    assert (
        load_rows(str(tmp_path / "saved")).fingerprint()
        == first
        == load_rows(str(tmp_path / "saved"), streaming=True).files
    )
    assert rows.select(range(20)).fingerprint() == first
    changed = [
        rows.select(range(19)),
        rows.select([1, 0, *range(2, 20)]),
        rows_of([images[0][:-1] + b"x", *images[1:]]),
        rows_of([None, *images[1:]]),
    ]
    columns = {**rows.dataset.to_dict(), "label": [2, *rows.dataset["label"][1:]]}
    changed.append(type(rows)(Dataset.from_dict(columns, features=rows.dataset.features), 20, None, False, "relabeled"))
    assert len({first, *(other.fingerprint() for other in changed)}) == 6
    more = type(rows)(rows.dataset.add_column("caption", ["a"] * 20), 20, None, False, "with captions")
    assert more.fingerprint(further=False) == first != more.fingerprint()
    some = more.select([3, 1])
    assert some.fingerprint(further=False) == rows.select([3, 1]).fingerprint() != rows.select([1, 3]).fingerprint()


@pytest.mark.parametrize(("kind", "values"), [("bool", [True, None]), ("uint64", [2**64 - 1, None])])
def test_of_labels_without_a_negative_number(kind, values):
    """Values that are missing differ from any other, in types that have no -1 to stand for them."""
    features = Features({"image": Image(), "label": Value(kind)})
    found = [
        fingerprint_of_rows(
            Dataset.from_dict({"image": [None] * 2, "label": pyarrow.array(labels, kind)}).cast(features)
        )
        for labels in (values, [*reversed(values)], [values[0], type(values[0])(0)])
    ]
    assert len(set(found)) == 3


def test_labels_that_earlier_versions_did_not_find(tmp_path):
    """By a folder deeper than the class, or none where images lie at several depths."""
    for number, data in enumerate(encoded_images(8)):
        place = tmp_path / "deep" / ("cat", "dog")[number % 2] / "abcd"[number % 4]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(data)
    rows = load_rows(str(tmp_path / "deep")).dataset
    none, last = fingerprints_of_earlier_labels(rows)
    unlabeled = rows.remove_columns("label")
    assert none == fingerprint_of_rows(unlabeled) != fingerprint_of_rows(rows)
    letters = [row["image"]["path"].split("/")[-2] for row in rows]
    numbered = unlabeled.add_column("label", ["abcd".index(letter) for letter in letters])
    assert last == fingerprint_of_rows(numbered) != none
    assert list(fingerprints_of_earlier_labels(unlabeled)) == []
