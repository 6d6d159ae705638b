"""A file as the path of a data set, and folders and archives without images: opened, or refused in one sentence."""

import json
import zipfile

import pyarrow
import pyarrow.parquet
import pytest

from hfcontrast.data.sources import available_splits, load_rows
from hfcontrast.errors import DataError
from tests.data.conftest import encoded_images

PNG = encoded_images(1)[0]


@pytest.fixture
def image(tmp_path):
    (tmp_path / "a b.png").write_bytes(PNG)
    return tmp_path / "a b.png"


def table(path, image):
    rows = [{"image": str(image), "label": number % 2} for number in range(4)]
    match path.suffix:
        case ".parquet":
            rows = [{"image": {"bytes": PNG, "path": None}, "label": row["label"]} for row in rows]
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        case ".csv":
            path.write_text("image,label\n" + "".join(f"{row['image']},{row['label']}\n" for row in rows))
        case ".json":
            path.write_text(json.dumps(rows))
        case ".jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".json", ".jsonl"])
def test_a_table_opens_by_its_ending(ending, image, tmp_path):
    path = table(tmp_path / f"rows [1]{ending}", image)
    assert available_splits(path) == ["train"]
    for streaming in (False, True):
        rows = load_rows(path, streaming=streaming)
        assert [row["label"] for row in rows.dataset] == [0, 1, 0, 1]
        assert rows.reader.image(next(iter(rows.dataset))["image"]).size
    with pytest.raises(DataError, match="is a file, beside which data.data_dir says nothing"):
        load_rows(path, data_dir="there")


def test_other_files_and_folders_in_the_wrong_place(image, tmp_path):
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    for arguments, sentence in [
        ({"path": str(image)}, "is a single image: name the folder that the images are in"),
        ({"path": str(tmp_path / "notes.pdf")}, "notes.pdf is a file that is not opened as a data set: name a folder"),
        ({"path": "imagefolder", "data_dir": str(image)}, "data.data_dir .*a b.png is a file, not a folder"),
        ({"path": "imagefolder", "data_files": str(tmp_path)}, "is a folder, not a file: name it in data.data_dir"),
        (
            {"path": "csv", "data_files": {"train": [str(tmp_path)]}},
            "is a folder, not a file: name it in data.data_dir",
        ),
    ]:
        for call in (load_rows, available_splits):
            with pytest.raises(DataError, match=sentence):
                call(**arguments)


def test_folders_without_images(tmp_path):
    for name in ("empty", "texts", "packed", "described"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts/a.txt").write_text("hello\n")
    (tmp_path / "packed/a.7z").write_bytes(bytes(9))
    (tmp_path / "described/a.png").write_bytes(PNG)
    (tmp_path / "described/README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: '*.csv'\n---\n")
    for name, sentence in [
        ("empty", "empty holds no images"),
        ("texts", r"texts holds no images: .*1 file of .* is not used: 1 \.txt"),
        ("packed", "packed holds no images: .*unpack archives, or pack them as zip or tar"),
        ("described", r"described/README\.md says under configs which files there are, and they are not there"),
    ]:
        for streaming in (False, True):
            with pytest.raises(DataError, match=sentence):
                load_rows(str(tmp_path / name), streaming=streaming)
    (tmp_path / "a.csv").write_text("image,label\n")
    with pytest.raises(DataError, match=r"a\.csv.* has no rows"):
        load_rows("csv", data_files=str(tmp_path / "a.csv"))


def test_archives_in_archives_and_empty_ones(tmp_path):
    with zipfile.ZipFile(tmp_path / "0.zip", "w") as packed:
        for name in ("a/0.png", "a/1.png", "b/2.png"):
            packed.writestr(name, PNG)
    for number in range(3):
        with zipfile.ZipFile(tmp_path / f"{number + 1}.zip", "w") as packed:
            packed.write(tmp_path / f"{number}.zip", f"{number}.zip")
    assert load_rows(str(tmp_path / "1.zip")).class_names == ["a", "b"]
    with pytest.raises(DataError, match=r"0\.zip is in 3 archives: unpack them"):
        load_rows("imagefolder", data_dir=str(tmp_path / "3.zip"))
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(DataError, match=r"/empty\.zip holds no files"):
        load_rows(str(tmp_path / "empty.zip"))


def test_why_a_column_called_image_holds_no_images(tmp_path, caplog):
    table = pyarrow.table({"image": [[1, 2]] * 2, "label": pyarrow.nulls(2)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match="no column of images: column 'image' holds lists of int64 values, not images; its"
    ):
        load_rows(str(tmp_path / "a.parquet"))
    pyarrow.parquet.write_table(
        table.set_column(0, "image", [[{"bytes": PNG, "path": None}] * 2]), tmp_path / "a.parquet"
    )
    load_rows(str(tmp_path / "a.parquet"), image_column="image")
    assert "a.parquet (split train) holds no value: no image has a label" in caplog.text
