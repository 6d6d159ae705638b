"""Texts that only one of two splits seems to have as labels are labels of both."""

import io

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pixels

from hfcontrast.data.sources import load_rows
from hfcontrast.evaluation.held_out import held_out_rows


def table(file, labels):
    def png(seed):
        buffer = io.BytesIO()
        noise = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Pixels.fromarray(noise).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = {"image": [png(seed) for seed in range(len(labels))], "label": labels}
    Dataset.from_dict(rows, features=Features(image=Image(), label=Value("string"))).to_parquet(file)
    return str(file)


@pytest.mark.parametrize(("train", "test"), [("ab", "aaaabbbbbb"), ("aaaabbbbbb", "ab")])
@pytest.mark.parametrize("split", [None, "test"])
def test_one_image_of_each_class_has_labels_as_the_other_split_has(tmp_path, caplog, train, test, split):
    files = {"train": table(tmp_path / "1.parquet", list(train)), "test": table(tmp_path / "2.parquet", list(test))}
    source = {"path": "parquet", "data_files": files}
    found = held_out_rows(source, train=lambda: load_rows(**source), train_split="train", split=split)
    assert found.train.labeled and found.test.labeled
    assert found.train.labels.names == found.test.labels.names == ("a", "b")
    assert "is used as labels all the same" in caplog.text


def test_where_neither_has_labels_both_stay_without(tmp_path):
    files = {"train": table(tmp_path / "1.parquet", list("ab")), "test": table(tmp_path / "2.parquet", list("cd"))}
    source = {"path": "parquet", "data_files": files}
    found = held_out_rows(source, train=lambda: load_rows(**source), train_split="train")
    assert not found.train.labeled and not found.test.labeled and found.train.not_labels == "label"
