"""What one split holds changes nothing of another: its class labels, its types, its damaged files."""

import pytest
from datasets import ClassLabel, Dataset, Features, Image

from hfcontrast.data.sources import load_rows
from hfcontrast.errors import DataError
from tests.data.conftest import encoded_images

PNG = encoded_images(1)[0]
ANIMALS = ["cat", "dog", "owl"] * 2


def save(path, names, animals=ANIMALS):
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    images = [{"bytes": PNG, "path": None}] * len(animals)
    rows = {"image": images, "label": [names.index(name) for name in animals]}
    Dataset.from_dict(rows, features=features).to_parquet(path)
    return str(path)


def animals(rows):
    return [rows.class_names[row["label"]] for row in rows.dataset]


@pytest.mark.parametrize("streaming", [False, True])
def test_class_labels_in_another_order(tmp_path, streaming):
    train, test = (
        save(tmp_path / "train.parquet", ["cat", "dog", "owl"]),
        save(tmp_path / "test.parquet", ["owl", "cat", "dog"]),
    )
    files = {"path": "parquet", "data_files": {"train": train, "test": test}, "streaming": streaming}
    for options in (files, {"path": str(tmp_path), "streaming": streaming}):
        for split, first in (("train", "cat"), ("test", "owl")):
            rows = load_rows(**options, split=split)
            assert animals(rows) == ANIMALS and rows.class_names[0] == first and rows.num_rows == 6
    save(tmp_path / "train2.parquet", ["dog", "cat", "owl"])
    with pytest.raises(DataError, match=r"the class labels of .*train2\.parquet are not those of .*train\.parquet"):
        load_rows("parquet", data_files=str(tmp_path / "train*.parquet"), streaming=streaming)
    if not streaming:
        with pytest.raises(DataError, match=r"the class labels of .* are not those of"):
            load_rows(**files, split="train+test")


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("streaming", [False, True])
def test_labels_of_other_types(tmp_path, kind, streaming, caplog):
    for split, label in (("train", "1"), ("test", "cat" if kind == "csv" else '"cat"')):
        row = f"a.png,{label}" if kind == "csv" else f'{{"image": "a.png", "label": {label}}}'
        (tmp_path / f"{split}.{kind}").write_text("image,label\n" * (kind == "csv") + f"{row}\n" * 4)
    options = {"path": kind, "data_dir": str(tmp_path), "streaming": streaming}
    assert [row["label"] for row in load_rows(**options).dataset] == [1] * 4
    test = load_rows(**options, split="test")
    assert [test.labels.name(test.labels.number(row["label"])) for row in test.dataset] == ["cat"] * 4
    assert streaming or "split test is read by itself, as the splits cannot be read together" in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_a_damaged_file_of_another_split(tmp_path, streaming, caplog):
    (tmp_path / "train.csv").write_text("image,label\n" + "a.png,1\n" * 4)
    (tmp_path / "test.csv").write_text("image,label\na.png,1\na,b,c,d\n")
    options = {"path": "csv", "data_dir": str(tmp_path), "streaming": streaming}
    assert len([*load_rows(**options).dataset]) == 4
    assert streaming or (
        "split train is read by itself, as the splits cannot be read together" in caplog.text
        and "test.csv" in caplog.text
    )
    with pytest.raises(DataError, match=r"test\.csv"):
        load_rows(**options, split="test")
