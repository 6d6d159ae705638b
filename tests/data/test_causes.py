"""What is wrong with a file is said in one line that names it, by everything that reads: map-style, streams, training and evaluation."""

import errno
import gzip
import json
import os

import pyarrow
import pyarrow.parquet
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from datasets.exceptions import DatasetGenerationError

from hfcontrast.data.causes import cause_text
from hfcontrast.data.evaluation_loader import evaluation_batches
from hfcontrast.data.loader import TrainLoader
from hfcontrast.data.sources import available_splits, load_rows
from hfcontrast.data.stream_errors import read_rows
from hfcontrast.errors import DataError
from hfcontrast.view import View
from tests.data.conftest import encoded_images

PNG = encoded_images(1)[0]


def parquet(path, count=8, **columns):
    table = {"image": [{"bytes": PNG, "path": None}] * count, "label": [0, 1] * (count // 2)} | columns
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    return path


def lines(path, rows):
    path.write_text("\n".join(rows) + "\n")
    return path


def csv_rows(count=8, label=1):
    return ["image,label", *[f"a.png,{label}"] * count]


def json_rows(count=8, **values):
    return [json.dumps({"image": "a.png", "label": 1} | values)] * count


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbled(path):
    data = bytearray(path.read_bytes())
    data[10:200] = b"\xff" * 190
    path.write_bytes(data)


def broken(kind, folder):
    """Writes files of which one is wrong; returns the format and the wrong one."""
    first, second = folder / f"a.{kind[0]}", folder / f"b.{kind[0]}"
    match kind:
        case ("parquet", what):
            parquet(first)
            parquet(second, **({"label": ["cat"] * 8} if what == "type" else {}))
            {"cut": cut, "garbled": garbled, "empty": lambda path: path.write_bytes(b"")}.get(what, lambda path: None)(
                second
            )
        case ("csv", "bad row"):
            lines(first, csv_rows()), lines(second, [*csv_rows(), "a.png,1,2,3"])
        case ("csv", "column"):
            lines(first, csv_rows()), lines(second, ["image,lable", *csv_rows()[1:]])
        case ("csv", "encoding"):
            lines(first, csv_rows()), second.write_bytes("image,label\né.png,1\nx.png,2\n".encode("latin-1"))
        case ("csv", "empty"):
            lines(first, csv_rows()), second.write_bytes(b"")
        case ("csv", "compression"):
            lines(first, csv_rows())
            second = lines(folder / "b.csv.gz", csv_rows())
        case ("csv", "cut off"):
            lines(first, csv_rows())
            second = folder / "b.csv.gz"
            second.write_bytes(gzip.compress(os.urandom(2000))[:500])
        case ("json", "broken"):
            lines(first, json_rows()), lines(second, [*json_rows(), '{"image": "a'])
        case ("json", "type"):
            lines(first, json_rows()), lines(second, json_rows(label="cat"))
        case ("json", "column"):
            lines(first, json_rows()), lines(second, json_rows(lable=2))
        case ("json", "empty"):
            first.write_bytes(b"")
            second = first
    return {"path": kind[0], "data_dir": str(folder)}, second


KINDS = {
    ("parquet", "cut"): "magic bytes not found",
    ("parquet", "garbled"): "OSError|ArrowInvalid",
    ("parquet", "empty"): r"is empty \(0 bytes\)",
    ("parquet", "type"): "Failed to parse string: 'cat' as a scalar of type int64, which the rows before have there",
    ("csv", "bad row"): "Expected 2 fields in line 10, saw 4",
    ("csv", "column"): "its columns are image, lable, and not image, label|it has no column 'label'",
    ("csv", "encoding"): "it is not UTF-8: .* 0xe9",
    ("csv", "empty"): r"is empty \(0 bytes\)",
    ("csv", "compression"): "it is not compressed as its name says",
    ("csv", "cut off"): "EOFError|UTF-8|ended before|Error",
    ("json", "broken"): "ValueError|JSON|ArrowInvalid",
    ("json", "type"): "Failed to parse string: 'cat' as a scalar of type int64",
    ("json", "column"): "its columns are .*lable.*, and not image, label",
    ("json", "empty"): r"is empty \(0 bytes\)",
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_the_file_and_what_is_wrong_with_it(tmp_path, kind, streaming):
    options, wrong = broken(kind, tmp_path)

    def training():
        rows = load_rows(**options, streaming=streaming)
        loader = TrainLoader(
            rows, (View(size=8),), batch_size=4, workers=0, cache=False, epoch_rows=8, max_unreadable=1
        )
        for _, _ in zip(range(8), loader, strict=False):
            pass

    def evaluation():
        rows = load_rows(**options, streaming=streaming)
        list(evaluation_batches(rows, lambda images: torch.zeros(len(images), 1), 4))

    def embedding():
        rows = load_rows(**options, streaming=streaming)
        list(read_rows(rows.dataset, rows.description, rows.shard_files))

    for read in (training, evaluation, embedding):
        with pytest.raises(DataError, match=KINDS[kind]) as raised:
            read()
        text = str(raised.value)
        assert str(wrong) in text and "\n" not in text and "generating the dataset" not in text


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("what", ["cut", "empty", "missing", "garbled", "dataset_info.json", "state.json"])
def test_saved_to_disk(tmp_path, what, streaming):
    features = Features({"image": Image(), "label": Value("int64")})
    images = [{"bytes": PNG, "path": None}] * 40
    Dataset.from_dict({"image": images, "label": [1] * 40}, features=features).save_to_disk(
        tmp_path / "x", num_shards=2
    )
    wrong = tmp_path / "x" / (what if what.endswith(".json") else "data-00001-of-00002.arrow")
    if what == "missing":
        wrong.unlink()
    else:
        {"cut": cut, "garbled": garbled}.get(
            what, lambda path: path.write_bytes(b"{" * (path.name == "dataset_info.json"))
        )(wrong)
    for read in (
        lambda: load_rows(str(tmp_path / "x"), streaming=streaming),
        lambda: available_splits(str(tmp_path / "x")),
    ):
        with pytest.raises(DataError, match="the data set saved in .* cannot be opened") as raised:
            read()
        assert str(wrong) in str(raised.value)


def test_the_innermost_cause():
    def raised(*errors):
        """An error that was raised from others, the innermost first."""
        chain = None
        for error in errors:
            error.__cause__, chain = chain, error
        return chain

    outer = DatasetGenerationError("An error occurred while generating the dataset")
    assert cause_text(raised(ValueError("a \n  b"), RuntimeError("x"), outer)) == "ValueError: a b"
    assert cause_text(raised(DataError("said already"), outer)) == "said already"
    assert (
        cause_text(PermissionError(errno.EACCES, "Permission denied", "/data/a.csv"))
        == "/data/a.csv (Permission denied)"
    )
    full = cause_text(raised(OSError(errno.ENOSPC, "No space left on device"), outer))
    assert "no space is left on the disk of" in full and "HF_DATASETS_CACHE" in full
    assert cause_text(ValueError("x"), "/data/b.csv") == "/data/b.csv (ValueError: x)"
    upon = ValueError("in the middle")
    upon.__context__ = KeyError("of no interest")
    assert cause_text(upon) == "ValueError: in the middle"


def test_a_full_disk(tmp_path, monkeypatch):
    lines(tmp_path / "a.csv", csv_rows())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("datasets.arrow_writer.ArrowWriter.write_table", full)
    with pytest.raises(DataError, match="no space is left on the disk of .*: free some, or set HF_DATASETS_CACHE"):
        load_rows("csv", data_dir=str(tmp_path))


@pytest.mark.parametrize("count", [1, 8])
def test_tables_of_other_columns_name_them(tmp_path, count):
    files = [
        str(lines(tmp_path / "a.csv", csv_rows(count))),
        str(lines(tmp_path / "b.csv", ["image,text", "a.png,a cat"])),
    ]
    with pytest.raises(DataError) as error:
        load_rows("csv", data_files=files)
    assert f"{files[1]} (its columns are image,text, and not image,label as in {files[0]}" in str(error.value)
    if count == 1:  # else the stream has begun
        with pytest.raises(DataError, match="some of its files have the columns image, label and others image, text"):
            load_rows("csv", data_files=files, streaming=True)
